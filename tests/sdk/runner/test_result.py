from decimal import Decimal
from typing import Any

import pytest
from agentlightning.emitter import emit_message, get_rewards_from_span
from agentlightning.errors import AgentError
from agentlightning.runner.result import record_result
from agentlightning.tracer import Tracer
from agentlightning.types import Span, SpanCoreFields
from opentelemetry.sdk.trace import TracerProvider


async def recorded(result: Any) -> list[Span]:
    async with Tracer().trace_context(rollout_id="ro-1", attempt_id="at-1") as attempt:
        record_result(result, attempt)
    return attempt.spans


class LikeNumpy:
    def __float__(self) -> float:
        return 0.5


class LikeAnArray:
    def __float__(self) -> float:
        raise TypeError("only length-1 arrays can be converted to Python scalars")

    def __repr__(self) -> str:
        return "array([1, 2])"


class LikeNumpysText(str):
    def __float__(self) -> float:
        return 0.5


@pytest.mark.parametrize("nothing", [None, [], ()])
async def test_nothing_returned_is_nothing_recorded(nothing) -> None:
    assert len(await recorded(nothing)) == 1


@pytest.mark.parametrize(
    ("number", "value"), [(0.5, 0.5), (1, 1.0), (True, 1.0), (LikeNumpy(), 0.5), (Decimal("0.5"), 0.5)]
)
async def test_a_number_is_the_reward_below_the_root(number, value) -> None:
    root, span = await recorded(number)
    assert get_rewards_from_span(span) == [("primary", value)]
    assert (span.parent_id, span.trace_id) == (root.span_id, root.trace_id)
    assert (root.sequence_id, span.sequence_id) == (1, 2)


async def test_numbers_by_name_are_one_reward() -> None:
    _, span = await recorded({"score": 0.5, "speed": 2, "cost": LikeNumpy()})
    assert get_rewards_from_span(span) == [("score", 0.5), ("speed", 2.0), ("cost", 0.5)]


async def test_spans_are_recorded_as_spans_of_the_attempt() -> None:
    spans = [Span.from_attributes(attributes={}, name=name, rollout_id="other") for name in "ab"]
    _, *recorded_spans = await recorded(spans)
    assert [(s.name, s.rollout_id, s.attempt_id, s.sequence_id) for s in recorded_spans] == [
        ("a", "ro-1", "at-1", 2),
        ("b", "ro-1", "at-1", 3),
    ]
    assert [span.span_id for span in recorded_spans] == [span.span_id for span in spans]


async def test_spans_of_opentelemetry_and_emitted_fields_are_spans() -> None:
    theirs = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("theirs")
    theirs.end()
    _, *spans = await recorded([theirs, SpanCoreFields(name="fields", attributes={"a": 1})])
    assert [span.name for span in spans] == ["theirs", "fields"]
    assert spans[1].attributes == {"a": 1}


async def test_one_span_is_as_good_as_a_list_of_one() -> None:
    _, span = await recorded(Span.from_attributes(attributes={}, name="alone"))
    assert (span.name, span.attempt_id) == ("alone", "at-1")


async def test_a_span_that_was_recorded_already_is_recorded_once() -> None:
    async with Tracer().trace_context(rollout_id="ro-1", attempt_id="at-1") as attempt:
        emit_message("hi")
        record_result(attempt.spans, attempt)
    assert len(attempt.spans) == 2


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("0.5", r"returned '0.5' \(str\)"),
        ({"score": "high"}, r"returned {'score': 'high'} \(dict\)"),
        (object, r"returned <class 'object'> \(type\)"),
        (LikeNumpysText("0.5"), r"returned '0.5' \(.*LikeNumpysText\)"),
        (LikeAnArray(), r"returned array\(\[1, 2\]\) \(.*LikeAnArray\)"),
        (1j, r"returned 1j \(complex\)"),
        ((number for number in [1]), r"\(generator\)"),
        ([1.0], r"a list with 1.0 \(float\)"),
        ("x" * 1000, r"returned 'x{76}\.\.\. \(str\)"),
    ],
)
async def test_anything_else_is_refused_by_its_type(result, message) -> None:
    with pytest.raises(AgentError, match=message):
        await recorded(result)


@pytest.mark.parametrize("number", [float("nan"), {"score": float("inf")}, {}])
async def test_a_reward_that_is_no_finite_number_is_refused(number) -> None:
    with pytest.raises(ValueError, match=r"must be finite|at least one"):
        await recorded(number)
