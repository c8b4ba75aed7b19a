from dataclasses import dataclass
from typing import Any

import pytest
from agentlightning.errors import AgentError
from agentlightning.litagent import LitAgent, as_agent, rollout
from agentlightning.types import Attempt, AttemptedRollout, NamedResources, PromptTemplate
from pydantic import BaseModel

RESOURCES: NamedResources = {"prompt_template": PromptTemplate(template="{x}")}


def a_rollout(task: Any = "task", mode: str | None = None) -> AttemptedRollout:
    attempt = Attempt(rollout_id="ro-1", attempt_id="at-1", sequence_id=1, start_time=0.0)
    return AttemptedRollout(rollout_id="ro-1", input=task, start_time=0.0, mode=mode, attempt=attempt)


async def run(agent: LitAgent[Any], rollout: AttemptedRollout) -> Any:
    result = agent.prepare(rollout, RESOURCES)()
    return await result if hasattr(result, "__await__") else result


class Both(LitAgent[str]):
    def training_rollout(self, task, resources, rollout):
        return "training"

    def validation_rollout(self, task, resources, rollout):
        return "validation"


@pytest.mark.parametrize(
    ("mode", "method"), [("train", "training"), ("val", "validation"), ("test", "validation"), (None, "validation")]
)
async def test_mode_train_calls_the_training_method_and_any_other_mode_the_validation_method(mode, method) -> None:
    assert await run(Both(), a_rollout(mode=mode)) == method


@pytest.mark.parametrize("mode", ["train", "val", None])
async def test_rollout_serves_every_mode(mode) -> None:
    class Agent(LitAgent[str]):
        def rollout(self, task, resources, rollout):
            return task, resources, rollout.mode

    assert await run(Agent(), a_rollout(mode=mode)) == ("task", RESOURCES, mode)


METHODS = [
    ("rollout", "train"),
    ("rollout_async", "train"),
    ("training_rollout", "train"),
    ("training_rollout_async", "train"),
    ("validation_rollout", "val"),
    ("validation_rollout_async", "val"),
]


@pytest.mark.parametrize(("name", "mode"), METHODS)
async def test_any_method_may_be_async(name, mode) -> None:
    async def method(self, task, resources, rollout):
        return task

    agent = type("Agent", (LitAgent,), {name: method})()
    assert await run(agent, a_rollout(mode=mode)) == "task"


@pytest.mark.parametrize(("name", "mode"), METHODS)
async def test_any_method_may_be_plain(name, mode) -> None:
    def method(self, task, resources, rollout):
        return task

    agent = type("Agent", (LitAgent,), {name: method})()
    assert await run(agent, a_rollout(mode=mode)) == "task"


async def test_a_method_for_one_mode_leaves_the_other_modes_to_rollout() -> None:
    class Agent(LitAgent[str]):
        async def validation_rollout_async(self, task, resources, rollout):
            return "validation"

        def rollout(self, task, resources, rollout):
            return "rollout"

    assert await run(Agent(), a_rollout(mode="train")) == "rollout"


async def test_a_method_may_call_the_one_it_overrides() -> None:
    class Agent(LitAgent[str]):
        def rollout(self, task, resources, rollout):
            return 1

        def training_rollout(self, task, resources, rollout):
            return super().training_rollout(task, resources, rollout) + 1

    assert await run(Agent(), a_rollout(mode="train")) == 2


async def test_the_older_signature_is_given_the_rollout_id() -> None:
    class Agent(LitAgent[Any]):
        def training_rollout(self, task, rollout_id, resources):
            return task, rollout_id, resources

    assert await run(Agent(), a_rollout(mode="train")) == ("task", "ro-1", RESOURCES)


async def test_the_older_signature_is_recognised_when_it_is_async() -> None:
    class Agent(LitAgent[Any]):
        async def training_rollout_async(self, task, rollout_id, resources):
            return task, rollout_id, resources

    assert await run(Agent(), a_rollout(mode="train")) == ("task", "ro-1", RESOURCES)


async def test_a_decorated_method_is_given_what_its_parameters_are_named_after() -> None:
    class Agent(LitAgent[str]):
        greeting = "hi"

        @rollout
        def rollout(self, question, prompt_template):
            return self.greeting, question, prompt_template.template

    assert await run(Agent(), a_rollout()) == ("hi", "task", "{x}")


async def test_a_method_that_takes_anything_is_given_resources_and_rollout() -> None:
    class Agent(LitAgent[Any]):
        def rollout(self, task, **given):
            return sorted(given)

    assert await run(Agent(), a_rollout()) == ["resources", "rollout"]


async def test_a_subclass_needs_no_constructor() -> None:
    class Agent(LitAgent[str]):
        def __init__(self) -> None:
            self.greeting = "hi"

        def rollout(self, task, resources, rollout):
            return self.greeting

    assert await run(Agent(), a_rollout()) == "hi"


def test_an_agent_without_a_method_for_the_mode_is_refused_with_the_methods_it_could_have() -> None:
    class Agent(LitAgent[str]):
        def training_rollout(self, task, resources, rollout):
            return 1

    with pytest.raises(AgentError, match=r"Agent.* mode 'val': .*validation_rollout_async, validation_rollout,"):
        Agent().prepare(a_rollout(mode="val"), {})


def nothing_for_prompt(self, task, prompt):
    pass


def positional_only(self, task, resources, rollout, /):
    pass


def no_task(self):
    pass


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            nothing_for_prompt,
            r"nothing_for_prompt\(task, prompt\) cannot be called: nothing is given to 'prompt'; .*@agl",
        ),
        (positional_only, r"'resources' is given by name, but is positional-only"),
        (no_task, r"no_task\(\) cannot be called: it has no parameter for the task"),
    ],
)
def test_a_method_that_cannot_be_called_is_refused_where_the_class_is_written(method, message) -> None:
    with pytest.raises(AgentError, match=message):
        type("Agent", (LitAgent,), {"training_rollout_async": method})


def test_a_function_put_in_place_of_a_method_is_refused_when_it_is_called() -> None:
    agent = LitAgent()
    agent.rollout = lambda task, prompt: 1
    with pytest.raises(AgentError, match="nothing is given to 'prompt'"):
        agent.prepare(a_rollout(), {})


@dataclass
class Room:
    seats: int


class Booking(BaseModel):
    rooms: list[Room]


class Late(LitAgent[Any]):
    def rollout(self, task: "Booking", resources, rollout):
        return task


async def test_a_task_annotated_with_a_model_is_rebuilt_from_json() -> None:
    assert await run(Late(), a_rollout({"rooms": [{"seats": 4}]})) == Booking(rooms=[Room(seats=4)])


async def test_a_task_annotated_with_a_dataclass_is_rebuilt_from_json() -> None:
    class Agent(LitAgent[Room]):
        def rollout(self, task: Room, resources, rollout):
            return task

    assert await run(Agent(), a_rollout({"seats": 4})) == Room(seats=4)


async def test_a_task_annotated_with_anything_else_is_given_as_it_is() -> None:
    class Agent(LitAgent[Any]):
        def rollout(self, task: "dict[str, int] | Unheard", resources, rollout):  # noqa: F821
            return task

    assert await run(Agent(), a_rollout({"seats": "4"})) == {"seats": "4"}


def test_a_task_that_does_not_fit_its_annotation_is_refused() -> None:
    with pytest.raises(AgentError, match=r"the task is not what task: 'Booking' asks for"):
        Late().prepare(a_rollout({"seats": 4}), {})


def test_an_agent_is_async_when_its_methods_are() -> None:
    class Async(LitAgent[str]):
        async def rollout_async(self, task, resources, rollout): ...

    class Misnamed(LitAgent[str]):
        async def rollout(self, task): ...

    class Half(Async):
        def validation_rollout(self, task, resources, rollout): ...

    class Decorated(LitAgent[str]):
        @rollout
        async def rollout(self, task): ...

    agents = (Async, Misnamed, Half, Decorated, LitAgent)
    assert [agent().is_async for agent in agents] == [True, True, False, True, False]


def test_a_function_is_an_async_agent_when_it_is_async() -> None:
    async def function(task): ...

    class Callable:
        async def __call__(self, task): ...

    agents = (function, Callable(), lambda task: 1.0)
    assert [as_agent(agent).is_async for agent in agents] == [True, True, False]
