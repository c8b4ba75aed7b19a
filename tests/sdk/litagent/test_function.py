import functools
from dataclasses import dataclass
from typing import Any

import pytest
from agentlightning.errors import AgentError, MissingResourceError
from agentlightning.litagent import LitAgent, as_agent, llm_rollout, prompt_rollout, rollout
from agentlightning.types import (
    LLM,
    Attempt,
    AttemptedRollout,
    CustomResource,
    NamedResources,
    PromptTemplate,
    ProxyLLM,
    Rollout,
)

PROMPT = PromptTemplate(template="{x}")
OTHER_PROMPT = PromptTemplate(template="other {x}")
MODEL = LLM(endpoint="http://model/v1", model="m")
PROXY = ProxyLLM(endpoint="http://proxy/v1", model="m")


def a_rollout(task: Any = "task") -> AttemptedRollout:
    attempt = Attempt(rollout_id="ro-1", attempt_id="at-1", sequence_id=1, start_time=0.0)
    return AttemptedRollout(rollout_id="ro-1", input=task, start_time=0.0, attempt=attempt)


def given(function, resources: NamedResources | None = None, task: Any = "task") -> Any:
    return as_agent(function).prepare(a_rollout(task), resources or {})()


def test_a_decorated_function_is_an_agent_that_is_still_that_function() -> None:
    @rollout
    def agent(task: str) -> str:
        """Greets."""
        return f"hi {task}"

    assert isinstance(agent, LitAgent)
    assert (agent("you"), agent.__name__, agent.__doc__) == ("hi you", "agent", "Greets.")


@pytest.mark.parametrize("decorator", [rollout, rollout(), rollout(strip_proxy=True)])
def test_rollout_is_written_with_and_without_parentheses(decorator) -> None:
    assert given(decorator(lambda task: task)) == "task"


@pytest.mark.parametrize("decorator", [llm_rollout, llm_rollout(), llm_rollout(strip_proxy=False)])
def test_llm_rollout_is_written_with_and_without_parentheses(decorator) -> None:
    assert given(decorator(lambda task, llm: llm), {"main": MODEL}) == MODEL


@pytest.mark.parametrize("decorator", [prompt_rollout, prompt_rollout()])
def test_prompt_rollout_is_written_with_and_without_parentheses(decorator) -> None:
    assert given(decorator(lambda task, prompt_template: prompt_template), {"main": PROMPT}) == PROMPT


@pytest.mark.parametrize(("decorator", "name"), [(llm_rollout, "llm"), (prompt_rollout, "prompt_template")])
def test_a_decorator_for_a_resource_refuses_a_function_that_does_not_take_it(decorator, name) -> None:
    with pytest.raises(AgentError, match=f"has no parameter '{name}'"):
        decorator(lambda task: task)


def test_the_first_parameter_is_the_task_whatever_its_name() -> None:
    assert given(lambda question: question) == "task"


def test_the_parameter_named_task_is_the_task_wherever_it_stands() -> None:
    assert given(lambda llm, task: (llm, task), {"llm": MODEL}) == (MODEL, "task")


def test_a_task_may_be_positional_only() -> None:
    def agent(task, /, rollout_id):
        return task, rollout_id

    assert given(agent) == ("task", "ro-1")


def test_rollout_and_resources_are_given_by_name() -> None:
    resources = {"prompt_template": PROMPT}
    agent = as_agent(lambda task, resources, rollout: (resources, rollout.rollout_id))
    assert agent.prepare(a_rollout(), resources)() == (resources, "ro-1")


def test_the_resource_of_the_parameters_name_is_preferred_to_the_first_of_its_type() -> None:
    resources = {"first": OTHER_PROMPT, "prompt_template": PROMPT}
    assert given(lambda task, prompt_template: prompt_template, resources) == PROMPT


def test_without_a_resource_of_the_name_the_first_of_the_type_is_given() -> None:
    resources = {"model": MODEL, "first": OTHER_PROMPT, "second": PROMPT}
    assert given(lambda task, prompt_template: prompt_template, resources) == OTHER_PROMPT


def test_any_other_parameter_is_the_resource_of_that_name() -> None:
    resources = {"judge": MODEL, "weights": CustomResource(value=[1, 2])}
    assert given(lambda task, judge, weights: (judge, weights.value), resources) == (MODEL, [1, 2])


def test_a_default_is_kept_when_there_is_no_such_resource() -> None:
    assert given(lambda task, temperature=0.5: temperature) == 0.5


def test_a_missing_resource_is_named_with_those_that_are_there() -> None:
    with pytest.raises(MissingResourceError, match=r"'prompt_template'; the rollout has 'model' \(LLM\)"):
        given(lambda task, prompt_template: prompt_template, {"model": MODEL})


@pytest.mark.parametrize("name", ["llm", "judge"])
def test_a_model_behind_a_proxy_is_given_with_the_endpoint_of_the_attempt(name) -> None:
    agent = eval(f"lambda task, {name}: {name}")
    assert given(agent, {name: PROXY}).endpoint == "http://proxy/rollout/ro-1/attempt/at-1/v1"


def test_a_model_behind_a_proxy_is_given_as_it_is_on_request() -> None:
    assert given(llm_rollout(strip_proxy=False)(lambda task, llm: llm), {"llm": PROXY}) == PROXY


async def test_an_async_function_is_an_agent() -> None:
    @rollout
    async def agent(task: str) -> str:
        return task

    assert await given(agent) == "task"


def test_an_agent_of_a_function_has_the_method_of_a_class_based_agent() -> None:
    agent = rollout(lambda task, prompt_template: (task, prompt_template))
    assert agent.rollout("other", {"main": PROMPT}, a_rollout()) == ("other", PROMPT)


@dataclass
class Room:
    seats: int


def test_a_task_annotated_with_a_dataclass_is_rebuilt_from_json() -> None:
    def agent(task: Room) -> Room:
        return task

    assert given(agent, task={"seats": 4}) == Room(seats=4)


@pytest.mark.parametrize(
    ("agent", "needs"),
    [
        (lambda task: 0, False),
        (lambda task, rollout: 0, False),
        (lambda task, resources: 0, True),
        (lambda task, prompt_template: 0, True),
    ],
)
def test_an_agent_needs_resources_when_a_parameter_is_given_from_them(agent, needs) -> None:
    assert rollout(agent).needs_resources is needs


def annotated_with_a_name(task: "Room") -> "Room":
    return task


def test_the_task_of_a_wrapped_function_is_rebuilt_with_the_names_of_its_own_module() -> None:
    decorator_of_another_module = eval("lambda function: lambda *args, **kwargs: function(*args, **kwargs)", {})
    wrapped = functools.wraps(annotated_with_a_name)(decorator_of_another_module(annotated_with_a_name))
    assert given(wrapped, task={"seats": 4}) == Room(seats=4)


def test_a_task_may_have_a_default() -> None:
    assert given(lambda task={}: task) == "task"


def no_parameters():
    pass


def positional_only(task, llm, /):
    pass


def any_number(task, *resources):
    pass


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_parameters, "no_parameters has no parameters"),
        (positional_only, "positional_only has the parameter 'llm', which cannot be given by name"),
        (any_number, r"any_number has the parameter '\*resources'"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_where_it_is_written(function, message) -> None:
    with pytest.raises(AgentError, match=message):
        rollout(function)


def test_an_agent_is_taken_as_it_is() -> None:
    agent = rollout(lambda task: 0)
    assert as_agent(agent) is agent


class Agent(LitAgent[str]):
    def method(self, task: str, rollout: Rollout) -> str:
        return rollout.rollout_id


def test_a_method_is_taken_for_a_function() -> None:
    assert given(Agent().method) == "ro-1"


class Desk:
    """Decorated methods of every kind."""

    def __init__(self, clerk: str) -> None:
        self.clerk = clerk

    @rollout
    def books(self, question: str, rollout_id: str) -> tuple[str, str, str]:
        return self.clerk, question, rollout_id

    @rollout()
    async def books_later(self, task: str) -> tuple[str, str]:
        return self.clerk, task

    @prompt_rollout
    def prompts(self, task: str, prompt_template: PromptTemplate) -> tuple[str, PromptTemplate]:
        return self.clerk, prompt_template

    @llm_rollout(strip_proxy=False)
    def asks(self, task: str, llm: LLM) -> tuple[str, LLM]:
        return self.clerk, llm

    @classmethod
    @rollout
    def of_the_class(cls, task: str) -> tuple[str, str]:
        return cls.__name__, task

    @staticmethod
    @rollout
    def of_nobody(task: str) -> str:
        return task


def test_a_decorated_method_is_an_agent_of_its_instance() -> None:
    one, other = Desk("Ann"), Desk("Bob")
    assert given(one.books) == ("Ann", "task", "ro-1")
    assert given(other.books) == ("Bob", "task", "ro-1")
    assert isinstance(one.books, LitAgent)


def test_a_decorated_method_is_still_called_as_one() -> None:
    assert Desk("Ann").books("why?", "ro-2") == ("Ann", "why?", "ro-2")


async def test_a_decorated_method_may_be_async() -> None:
    assert await given(Desk("Ann").books_later) == ("Ann", "task")


def test_decorators_for_a_resource_work_on_methods_with_their_settings() -> None:
    assert given(Desk("Ann").prompts, {"p": PROMPT}) == ("Ann", PROMPT)
    assert given(Desk("Ann").asks, {"m": PROXY}) == ("Ann", PROXY)


def test_a_decorated_method_of_a_class_or_of_nobody_is_an_agent() -> None:
    assert given(Desk.of_the_class) == ("Desk", "task")
    assert given(Desk("Ann").of_nobody) == "task"


def test_a_method_of_no_instance_is_refused() -> None:
    with pytest.raises(AgentError, match=r"Desk\.books is a method: give it of an instance"):
        given(Desk.books)


def test_a_decorated_method_that_cannot_be_called_is_refused_where_it_is_written() -> None:
    with pytest.raises(AgentError, match="has the parameter 'llm', which cannot be given by name"):

        class _:
            @rollout
            def method(self, task, llm, /): ...


def test_what_cannot_be_inspected_is_refused_where_it_is_written() -> None:
    with pytest.raises(AgentError, match="write @classmethod above"):
        rollout(classmethod(lambda cls, task: task))


def test_an_object_that_is_called_as_a_function_is_an_agent() -> None:
    @dataclass
    class Greeter:
        greeting: str

        def __call__(self, task: "Room", rollout_id: str) -> "tuple[str, Room, str]":
            return self.greeting, task, rollout_id

    assert given(Greeter("hi"), task={"seats": 4}) == ("hi", Room(seats=4), "ro-1")


def test_a_partial_function_is_an_agent_of_what_is_left_to_give() -> None:
    def agent(task: "Room", greeting: str, rollout_id: str) -> "tuple[Room, str, str]":
        return task, greeting, rollout_id

    assert given(functools.partial(agent, greeting="hi"), task={"seats": 4}) == (Room(seats=4), "hi", "ro-1")


@pytest.mark.parametrize(("value", "message"), [(42, "42 is neither"), (Agent, "is neither; give an instance of it")])
def test_anything_else_is_no_agent(value, message) -> None:
    with pytest.raises(AgentError, match=message):
        as_agent(value)
