"""Functions as agents: each parameter is given the task, the rollout, or the resource it is named after.

Knows neither who runs the agent nor how it is recorded.
"""

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any, Final, TypeVar, overload

from agentlightning.errors import AgentError, MissingResourceError
from agentlightning.litagent.litagent import LitAgent
from agentlightning.litagent.task import rebuild
from agentlightning.types import LLM, AttemptedRollout, NamedResources, PromptTemplate, ProxyLLM, Resource, Rollout

T = TypeVar("T")
Function = Callable[..., Any]
Decorator = Callable[[Function], "FunctionalLitAgent[Any]"]

_BY_TYPE: Final[dict[str, type[Resource]]] = {"llm": LLM, "prompt_template": PromptTemplate}
_OF_ROLLOUT: Final = frozenset({"rollout", "rollout_id"})
_OF_METHODS: Final = ("self", "cls")


class FunctionalLitAgent(LitAgent[T]):
    """An agent made of a function, and still callable as that function.

    Its first parameter, or the one named `task`, is given the task; `rollout`, `rollout_id` and `resources` are what
    their names say; `llm` and `prompt_template` are the resource of that name, else the first of that type; any other
    parameter is the resource of that name. Of a method, each instance of the class has such an agent.

    Args:
        function: The function, plain or async.
        strip_proxy: Whether an LLM behind a proxy is given with the endpoint of the attempt.

    Raises:
        AgentError: When the function has parameters that cannot be given.

    Example:
        >>> agent = FunctionalLitAgent(lambda question, judge=None: len(question))
        >>> agent("why?")
        4
    """

    def __init__(self, function: Function, *, strip_proxy: bool = True) -> None:
        self._function = function
        self._strip_proxy = strip_proxy
        parameters = [p for p in _parameters(function) if p.kind is not Parameter.VAR_KEYWORD]
        self._is_unbound = bool(parameters) and parameters[0].name in _OF_METHODS
        parameters = parameters[self._is_unbound :]
        self._task = _task_parameter(function, parameters)
        self._others = [parameter for parameter in parameters if parameter is not self._task]
        _check(function, self._others)
        self.needs_resources = any(parameter.name not in _OF_ROLLOUT for parameter in self._others)
        functools.update_wrapper(self, function, updated=())

    @property
    def is_async(self) -> bool:
        """Whether the function is."""
        call = getattr(self._function, "__call__", None)  # noqa: B004 - of an object that is called as a function
        return inspect.iscoroutinefunction(self._function) or inspect.iscoroutinefunction(call)

    def __get__(self, instance: object, owner: type | None = None) -> "FunctionalLitAgent[T]":
        """The agent of one instance, where this is a method of its class."""
        if instance is None or not hasattr(self._function, "__get__"):
            return self
        return FunctionalLitAgent(self._function.__get__(instance, owner), strip_proxy=self._strip_proxy)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    def rollout(self, task: T, resources: NamedResources, rollout: Rollout) -> Any:
        """Do one task; the answer of an async function is to be awaited."""
        return self.prepare(rollout.model_copy(update={"input": task}), resources)()

    def prepare(self, rollout: Rollout, resources: NamedResources) -> Callable[[], Any]:
        """The call, without arguments, that does a rollout.

        Raises:
            AgentError: When the task does not fit, or this is a method of no instance.
            MissingResourceError: When the function asks for a resource that is not there.
        """
        if self._is_unbound:
            raise AgentError(f"{_name(self._function)} is a method: give it of an instance of its class")
        given: dict[str, Any] = {"rollout": rollout, "rollout_id": rollout.rollout_id, "resources": resources}
        arguments = {}
        for parameter in self._others:
            if parameter.name in given:
                arguments[parameter.name] = given[parameter.name]
            elif resource := _resource(parameter, resources):
                arguments[parameter.name] = self._concrete(resource, rollout)
        if self._task is None:
            return functools.partial(self._function, **arguments)
        task = rebuild(rollout.input, self._function, self._task)
        if self._task.kind is Parameter.POSITIONAL_ONLY:
            return functools.partial(self._function, task, **arguments)
        return functools.partial(self._function, **{self._task.name: task}, **arguments)

    def _concrete(self, resource: Resource, rollout: Rollout) -> Resource:
        if self._strip_proxy and isinstance(resource, ProxyLLM) and isinstance(rollout, AttemptedRollout):
            return resource.with_attempted_rollout(rollout)
        return resource


@overload
def rollout(function: Function, /) -> FunctionalLitAgent[Any]: ...
@overload
def rollout(*, strip_proxy: bool = True) -> Decorator: ...
def rollout(function: Function | None = None, /, *, strip_proxy: bool = True) -> FunctionalLitAgent[Any] | Decorator:
    """Make a function or a method an agent; see `FunctionalLitAgent` for what its parameters are given.

    Args:
        function: The function, plain or async.
        strip_proxy: Whether an LLM behind a proxy is given with the endpoint of the attempt.

    Raises:
        AgentError: When the function has parameters that cannot be given.

    Example:
        >>> import agentlightning as agl
        >>> @agl.rollout
        ... def greeter(task: dict, prompt_template: agl.PromptTemplate) -> float:
        ...     return 1.0 if task["name"] in prompt_template.format(**task) else 0.0
        >>> greeter({"name": "you"}, agl.PromptTemplate(template="Hi {name}"))
        1.0
    """
    decorate = functools.partial(FunctionalLitAgent, strip_proxy=strip_proxy)
    return decorate if function is None else decorate(function)


@overload
def llm_rollout(function: Function, /) -> FunctionalLitAgent[Any]: ...
@overload
def llm_rollout(*, strip_proxy: bool = True) -> Decorator: ...
def llm_rollout(
    function: Function | None = None, /, *, strip_proxy: bool = True
) -> FunctionalLitAgent[Any] | Decorator:
    """Make a function with a parameter `llm` an agent; see `rollout`.

    Args:
        function: The function, plain or async.
        strip_proxy: Whether an LLM behind a proxy is given with the endpoint of the attempt.

    Raises:
        AgentError: When the function has no such parameter, or others that cannot be given.

    Example:
        >>> import agentlightning as agl
        >>> @agl.llm_rollout(strip_proxy=False)
        ... def asks(task: str, llm: agl.LLM) -> None:
        ...     print(f"asks {llm.model} at {llm.endpoint}: {task}")
        >>> asks("why?", agl.LLM(endpoint="http://localhost:8000/v1", model="small"))
        asks small at http://localhost:8000/v1: why?
    """

    def decorate(function: Function) -> FunctionalLitAgent[Any]:
        return FunctionalLitAgent(_asking_for("llm", function), strip_proxy=strip_proxy)

    return decorate if function is None else decorate(function)


@overload
def prompt_rollout(function: Function, /) -> FunctionalLitAgent[Any]: ...
@overload
def prompt_rollout() -> Decorator: ...
def prompt_rollout(function: Function | None = None, /) -> FunctionalLitAgent[Any] | Decorator:
    """Make a function with a parameter `prompt_template` an agent; see `rollout`.

    Args:
        function: The function, plain or async.

    Raises:
        AgentError: When the function has no such parameter, or others that cannot be given.

    Example:
        >>> import agentlightning as agl
        >>> @agl.prompt_rollout
        ... def greeter(task: str, prompt_template: agl.PromptTemplate) -> float:
        ...     return float(task in prompt_template.format(name=task))
        >>> greeter("you", agl.PromptTemplate(template="Hi {name}"))
        1.0
    """

    def decorate(function: Function) -> FunctionalLitAgent[Any]:
        return FunctionalLitAgent(_asking_for("prompt_template", function))

    return decorate if function is None else decorate(function)


def as_agent(agent: object) -> LitAgent[Any]:
    """Take what users give for an agent: an agent, or a function or any other object that is called as one.

    Raises:
        AgentError: When it is neither.

    Example:
        >>> as_agent(lambda task: 1.0).needs_resources
        False
    """
    if isinstance(agent, LitAgent):
        return agent
    if callable(agent) and not isinstance(agent, type):
        return FunctionalLitAgent(agent)
    hint = "; give an instance of it" if isinstance(agent, type) and issubclass(agent, LitAgent) else ""
    raise AgentError(f"an agent is a LitAgent or a function; {agent!r} is neither{hint}")


def _parameters(function: Function) -> list[Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:  # a class method below the decorator, or a builtin
        raise AgentError(
            f"{_name(function)} cannot be an agent, as its parameters cannot be read: {error}; wrap it in a function "
            "(of a class method, write @classmethod above the other decorator)"
        ) from error


def _task_parameter(function: Function, parameters: list[Parameter]) -> Parameter | None:
    if not parameters:
        raise AgentError(f"{_name(function)} has no parameters; its first one is given the task")
    named = next((parameter for parameter in parameters if parameter.name == "task"), None)
    first = parameters[0] if parameters[0].name not in (*_OF_ROLLOUT, "resources", *_BY_TYPE) else None
    return named or first


def _check(function: Function, parameters: list[Parameter]) -> None:
    for parameter in parameters:
        if parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL):
            raise AgentError(
                f"{_name(function)} has the parameter '{parameter}', which cannot be given by name; after the task, "
                "parameters are named after what they are given"
            )


def _asking_for(name: str, function: Function) -> Function:
    if name not in {parameter.name for parameter in _parameters(function)}:
        raise AgentError(f"{_name(function)} has no parameter {name!r}; add it, or use @rollout")
    return function


def _resource(parameter: Parameter, resources: NamedResources) -> Resource | None:
    kind = _BY_TYPE.get(parameter.name, Resource)
    named = resources.get(parameter.name)
    if isinstance(named, kind):
        return named
    of_kind = [resource for resource in resources.values() if isinstance(resource, kind)]
    if parameter.name in _BY_TYPE and of_kind:
        return of_kind[0]
    if parameter.default is not Parameter.empty:
        return None
    there = ", ".join(f"{name!r} ({type(resource).__name__})" for name, resource in resources.items()) or "none"
    raise MissingResourceError(f"the agent asks for the resource {parameter.name!r}; the rollout has {there}")


def _name(function: Function) -> str:
    return str(getattr(function, "__qualname__", function))
