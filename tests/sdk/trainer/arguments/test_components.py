"""What a part of training may be written as, and what is said of what it may not."""

import sys
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.adapter import TraceAdapter
from agentlightning.trainer.arguments.components import ADAPTER, HOOK, RUNNER, STORE, build


class Counting(TraceAdapter[int]):
    """An adapter of one's own."""

    def __init__(self, start: int = 0) -> None:
        self.start = start

    def adapt(self, spans: Any, /) -> int:
        return self.start + len(spans)


class Demanding(agl.TraceToMessages):
    """An adapter that cannot be made without being told something."""

    def __init__(self, what: str) -> None:
        self.what = what


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file under a name that an import path can have, however it was imported."""
    monkeypatch.setitem(sys.modules, "my_parts", sys.modules[__name__])


@pytest.mark.parametrize(
    "spec",
    [
        Counting(),
        Counting,
        lambda: Counting(),
        "my_parts.Counting",
        "my_parts:Counting",
        {"type": "my_parts.Counting"},
        {"type": Counting, "start": 0},
    ],
    ids=["object", "class", "function", "path", "path with a colon", "dict", "dict with a class"],
)
def test_a_part_is_given_in_any_of_these_forms(spec: Any) -> None:
    adapter = agl.Trainer(adapter=spec).adapter
    assert isinstance(adapter, Counting)
    assert adapter.start == 0


def test_the_other_keys_of_a_dict_are_arguments() -> None:
    adapter: Any = agl.Trainer(adapter={"type": "my_parts.Counting", "start": 3}).adapter
    assert adapter.start == 3


@pytest.mark.parametrize("match", [{"agent_match": "writer"}, {}])
def test_a_dict_without_a_type_configures_the_triplet_adapter(match: dict[str, str]) -> None:
    adapter = agl.Trainer(adapter=match).adapter
    assert isinstance(adapter, agl.TracerTraceToTriplet)
    assert adapter.agent_match == match.get("agent_match")


@pytest.mark.parametrize("name", ["TraceToMessages", "TracerTraceToTriplet", "LlmProxyTraceToTriplet"])
def test_an_adapter_goes_by_the_name_of_its_class(name: str) -> None:
    assert type(agl.Trainer(adapter=name).adapter).__name__ == name


def test_without_an_adapter_messages_are_made_of_spans() -> None:
    assert isinstance(agl.Trainer().adapter, agl.TraceToMessages)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (42, "of the type int"),
        ("TraceToNothing", "which is no short name"),
        ("my_parts.Nothing", "no attribute 'Nothing'"),
        ("no.such.module", "No module named 'no'"),
        (dict, "which makes {}"),
        (lambda: None, "which makes None"),
        (Demanding, "missing a required argument: 'what'"),
        ({"type": "TraceToMessages", "nonsense": 1}, "unexpected keyword argument 'nonsense'"),
    ],
    ids=["number", "name", "path", "module", "other class", "function", "needy class", "argument"],
)
def test_what_is_no_adapter_is_refused_with_the_forms_that_are(spec: Any, reason: str) -> None:
    with pytest.raises(agl.TrainerError) as error:
        agl.Trainer(adapter=spec)
    message = str(error.value)
    assert message.startswith("adapter is ")
    assert reason in message
    assert "'TraceToMessages'" in message
    assert "'package.module.name'" in message


def test_what_a_class_raises_itself_is_left_as_it_is() -> None:
    def broken() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        build(ADAPTER, broken)


@pytest.mark.parametrize("part", [STORE, RUNNER, HOOK])
def test_a_dict_without_a_type_is_refused_where_nothing_is_meant_by_it(part: Any) -> None:
    with pytest.raises(agl.TrainerError, match='a dict without "type"'):
        build(part, {"a": 1})


@pytest.mark.parametrize("spec", ["baseline", "Baseline", agl.Baseline, agl.Baseline(), lambda: agl.Baseline(), None])
def test_an_algorithm_is_given_in_any_form_and_is_the_baseline_by_default(spec: Any) -> None:
    assert isinstance(agl.Trainer(algorithm=spec).algorithm, agl.Baseline)


def test_apo_by_its_name_uses_the_default_client_of_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert isinstance(agl.Trainer(algorithm={"type": "apo", "beam_width": 2}).algorithm, agl.APO)


def test_a_function_with_parameters_is_an_algorithm_itself() -> None:
    async def search(store: Any, val_dataset: Any) -> None: ...

    algorithm = agl.Trainer(algorithm=search).algorithm
    assert algorithm.is_async()
    assert algorithm.__name__ == "search"  # type: ignore[attr-defined]


def test_hooks_are_made_one_by_one_in_their_order() -> None:
    class Mine(agl.Hook): ...

    first, second, third = agl.Trainer(hooks=[Mine(), Mine, {"type": Mine}]).hooks
    assert {type(hook) for hook in (first, second, third)} == {Mine}
    assert len(agl.Trainer(hooks=Mine).hooks) == 1
    assert agl.Trainer().hooks == ()


def test_a_bad_hook_is_refused_by_its_place() -> None:
    with pytest.raises(agl.TrainerError, match=r"hooks\[1\] is 'nonsense', which is no short name"):
        agl.Trainer(hooks=[agl.Hook(), "nonsense"])


class Runner(agl.LitAgentRunner[Any]):
    """A runner of one's own."""


def test_a_runner_class_is_given_the_tracer_and_the_limit() -> None:
    tracer = agl.Tracer()
    trainer = agl.Trainer(runner=Runner, tracer=tracer, max_rollouts=3)
    assert isinstance(trainer.runner, Runner)
    assert (trainer.runner.tracer, trainer.runner.max_rollouts) == (tracer, 3)


def test_a_runner_object_brings_its_own_tracer_and_limit() -> None:
    runner = Runner(agl.Tracer(), 5)
    trainer = agl.Trainer(runner=runner)
    assert (trainer.runner, trainer.tracer, trainer.max_rollouts) == (runner, runner.tracer, 5)


@pytest.mark.parametrize(("name", "value"), [("max_rollouts", 3), ("tracer", "Tracer")])
def test_a_runner_object_beside_what_it_would_not_use_is_refused(name: str, value: Any) -> None:
    with pytest.raises(agl.TrainerError, match=f"^{name} is .* but the runner that is given has"):
        agl.Trainer(runner=Runner(), **{name: value})
