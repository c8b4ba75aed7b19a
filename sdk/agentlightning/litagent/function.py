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


class FunctionalLitAgent(LitAgent[T]):
    """An agent made of a function, and still callable as that function.

    Its first parameter, or the one named `task`, is given the task; `rollout`, `rollout_id` and `resources` are what
    their names say; `llm` and `prompt_template` are the resource of that name, else the first of that type; any other
    parameter is the resource of that name.

    Args:
        function: The function, plain or async.
        strip_proxy: Whether an LLM behind a proxy is given with the endpoint of the attempt.

    Raises:
        AgentError: When the function has parameters that cannot be given.
    """

    def __init__(self, function: Function, *, strip_proxy: bool = True) -> None:
        self._function = function
        self._strip_proxy = strip_proxy
        parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        self._task = _task_parameter(function, parameters)
        self._others = [parameter for parameter in parameters if parameter is not self._task]
        _check(function, self._others)
        self.needs_resources = any(parameter.name not in _OF_ROLLOUT for parameter in self._others)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    def rollout(self, task: T, resources: NamedResources, rollout: Rollout) -> Any:
        """Do one task; the answer of an async function is to be awaited."""
        return self.prepare(rollout.model_copy(update={"input": task}), resources)()

    def prepare(self, rollout: Rollout, resources: NamedResources) -> Callable[[], Any]:
        """The call, without arguments, that does a rollout.

        Raises:
            AgentError: When the task does not fit.
            MissingResourceError: When the function asks for a resource that is not there.
        """
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
    """Make a function an agent; see `FunctionalLitAgent` for what its parameters are given.

    Args:
        function: The function, plain or async.
        strip_proxy: Whether an LLM behind a proxy is given with the endpoint of the attempt.

    Raises:
        AgentError: When the function has parameters that cannot be given.
    """
    decorate = functools.partial(FunctionalLitAgent, strip_proxy=strip_proxy)
    return decorate(function) if function else decorate


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
    """

    def decorate(function: Function) -> FunctionalLitAgent[Any]:
        return FunctionalLitAgent(_asking_for("llm", function), strip_proxy=strip_proxy)

    return decorate(function) if function else decorate


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
    """

    def decorate(function: Function) -> FunctionalLitAgent[Any]:
        return FunctionalLitAgent(_asking_for("prompt_template", function))

    return decorate(function) if function else decorate


def as_agent(agent: object) -> LitAgent[Any]:
    """Take what users give for an agent: an agent, or a function.

    Raises:
        AgentError: When it is neither.
    """
    if isinstance(agent, LitAgent):
        return agent
    if inspect.isroutine(agent) or isinstance(agent, functools.partial):
        return FunctionalLitAgent(agent)
    hint = "; give an instance of it" if isinstance(agent, type) and issubclass(agent, LitAgent) else ""
    raise AgentError(f"an agent is a LitAgent or a function; {agent!r} is neither{hint}")


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
    if name not in inspect.signature(function).parameters:
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
