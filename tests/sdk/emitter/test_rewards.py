from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from agentlightning.emitter import (
    emit_message,
    emit_reward,
    find_final_reward,
    find_reward_spans,
    get_reward_value,
    get_rewards_from_span,
    is_reward_span,
    reward,
    reward_attributes,
)
from agentlightning.tracer import Tracer
from agentlightning.types import Span


class LikeNumpy:
    def __float__(self) -> float:
        return 0.5


class LikeArray:
    def __float__(self) -> float:
        raise TypeError("only one number can be converted")


def a_span(**attributes: Any) -> Span:
    return Span.from_attributes(attributes=attributes)


def a_reward_span(value: Any) -> Span:
    return Span.from_attributes(attributes=dict(reward_attributes(value)))


@pytest.mark.parametrize("number", [0.5, Fraction(1, 2), Decimal("0.5"), LikeNumpy()])
def test_a_number_of_any_type_is_one_primary_reward(number) -> None:
    assert reward_attributes(number) == {
        "agentlightning.reward.0.name": "primary",
        "agentlightning.reward.0.value": 0.5,
    }


@pytest.mark.parametrize(("number", "value"), [(1, 1.0), (True, 1.0), (False, 0.0)])
def test_a_whole_number_or_a_truth_value_becomes_a_float(number, value) -> None:
    assert type(reward_attributes(number)["agentlightning.reward.0.value"]) is float
    assert get_reward_value(a_reward_span(number)) == value


@pytest.mark.parametrize(
    ("rewards", "primary_key", "names"),
    [
        ({"b": 1, "a": 2}, None, ["b", "a"]),
        ({"b": 1, "reward": 2}, None, ["reward", "b"]),
        ({"b": 1, "reward": 2, "primary": 3}, None, ["primary", "b", "reward"]),
        ({"b": 1, "primary": 2, "a": 3}, "a", ["a", "b", "primary"]),
    ],
)
def test_of_several_numbers_the_primary_one_comes_first(rewards, primary_key, names) -> None:
    span = a_span(**reward_attributes(rewards, primary_key))
    assert [name for name, _ in get_rewards_from_span(span)] == names


@pytest.mark.parametrize("number", [float("nan"), float("inf"), {"a": float("-inf")}])
def test_a_number_that_is_not_finite_is_refused(number) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        emit_reward(number)


@pytest.mark.parametrize("value", ["1", None, 1j, {"a": "1"}, LikeArray(), [1]])
def test_what_is_not_a_number_is_refused(value) -> None:
    with pytest.raises(TypeError, match="must be a number"):
        emit_reward(value)


def test_no_numbers_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        emit_reward({})


def test_a_primary_key_that_names_none_is_refused() -> None:
    with pytest.raises(ValueError, match="primary_key is 'c', but the rewards are 'a', 'b'"):
        emit_reward({"a": 1, "b": 2}, primary_key="c")


def test_attributes_are_recorded_with_the_reward() -> None:
    fields = emit_reward(1, attributes={"judge": {"model": "m"}})
    assert fields.attributes["judge.model"] == "m"
    assert fields.name == "agentlightning.annotation"


def test_the_values_of_a_span_are_read_in_numeric_order() -> None:
    span = a_span(**reward_attributes({str(number): number for number in range(12)}))
    assert [value for _, value in get_rewards_from_span(span)] == list(range(12))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"agentlightning.reward": 1},
        {"agentlightning.reward.0.value": "high"},
        {"agentlightning.reward.best.value": 1},
        {"agentlightning.reward.0.name": "primary"},
        {"agentlightning.reward.0.value": float("nan")},
        {"agentlightning.reward.1.value": 1},
        {"reward": 1},
        {"agentops.entity.output": "{"},
        {"agentops.entity.output": '{"type": "answer", "value": 1}'},
        {"agentops.task.output": '{"type": "reward", "value": "high"}'},
        {"agentops.task.output": '["reward"]'},
        {"agentops.task.output": '{"type": "reward", "value": ' + "9" * 400 + "}"},
        {"agentops.task.output": '{"reward": ' + "[" * 100_000},
        {"agentlightning.reward.00.value": 1},
    ],
)
def test_a_span_with_malformed_rewards_has_none(attributes) -> None:
    assert not is_reward_span(a_span(**attributes))


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("agentlightning.annotation", {"reward": 1}),
        ("agentlightning.reward", {"reward": 1.0}),
        ("agentlightning.reward", {"agentlightning.reward.0.value": "high", "reward": True}),
        ("grade.task", {"agentops.task.output": '{"type": "reward", "value": 1.0}'}),
        ("grade.task", {"agentops.entity.output": {"type": "reward", "value": 1}}),
        ("grade.task", {"agentops.task.output": "{}", "agentops.entity.output": '{"type": "reward", "value": 1}'}),
    ],
)
def test_a_reward_that_an_earlier_version_recorded_is_read(name, attributes) -> None:
    span = Span.from_attributes(name=name, attributes=attributes)
    assert get_rewards_from_span(span) == [("primary", 1.0)]
    assert find_final_reward([span, a_span()]) == 1.0


def test_the_final_reward_is_the_last_one_in_the_order_given() -> None:
    assert find_final_reward([a_reward_span(1), a_reward_span(2), a_span()]) == 2


def test_without_a_reward_there_is_no_final_reward() -> None:
    assert find_final_reward([a_span()]) is None


def test_reward_spans_are_found_among_others() -> None:
    spans = [a_span(), a_reward_span(1), a_reward_span(0)]
    assert find_reward_spans(spans) == spans[1:]


async def test_a_reward_is_a_span_of_the_rollout_in_progress() -> None:
    async with Tracer().trace_context(rollout_id="ro-1", attempt_id="at-1") as attempt:
        emit_reward(0.5)
    root, span = attempt.spans
    assert (get_reward_value(span), span.parent_id) == (0.5, root.span_id)


async def test_a_decorated_function_emits_what_it_returns() -> None:
    @reward
    def grade(answer: str) -> float:
        return float(answer == "yes")

    @reward
    async def grade_async(answer: str) -> float:
        return grade(answer) / 2

    async with Tracer().trace_context() as attempt:
        assert await grade_async("yes") == 0.5
    assert [get_reward_value(span) for span in find_reward_spans(attempt.spans)] == [1.0, 0.5]
    assert find_final_reward(attempt.spans) == 0.5


async def test_what_a_decorated_function_does_lies_in_an_operation_and_the_reward_beside_it() -> None:
    @reward
    def grade() -> float:
        emit_message("thinking")
        return 0.5

    async with Tracer().trace_context() as attempt:
        grade()
    root, grading, thinking, given = attempt.spans
    assert grading.attributes == {"agentlightning.operation.name": "agentlightning.reward"}
    assert [span.parent_id for span in (grading, thinking, given)] == [root.span_id, grading.span_id, root.span_id]
    assert get_reward_value(given) == 0.5


async def test_a_decorated_function_that_fails_gives_no_reward_and_its_operation_says_why() -> None:
    @reward
    async def grade() -> float:
        raise LookupError("no judge")

    async with Tracer().trace_context() as attempt:
        with pytest.raises(LookupError, match="no judge"):
            await grade()
    assert find_reward_spans(attempt.spans) == []
    assert attempt.spans[1].status.description == "LookupError: no judge"


class Judge:
    @reward
    def grade(self, answer: str) -> dict[str, float]:
        """Grade an answer."""
        return {"fits": 0.5, "polite": len(answer)}

    @reward
    async def grade_async(self) -> bool:
        return True


async def test_a_decorated_method_emits_what_it_returns() -> None:
    async with Tracer().trace_context() as attempt:
        assert Judge().grade("yes") == {"fits": 0.5, "polite": 3}
        assert await Judge().grade_async() is True
    assert [get_rewards_from_span(span) for span in find_reward_spans(attempt.spans)] == [
        [("fits", 0.5), ("polite", 3.0)],
        [("primary", 1.0)],
    ]
    assert Judge.grade.__doc__ == "Grade an answer."


def test_outside_of_a_rollout_a_reward_is_logged_and_not_recorded(caplog) -> None:
    with caplog.at_level("DEBUG", "agentlightning"):
        emit_message("hi")
    assert "agentlightning.message is not recorded: no rollout is in progress here" in caplog.text
