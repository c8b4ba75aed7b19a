"""What an agent is: an object with a method for one rollout. Knows neither who runs it nor how it is recorded."""

import functools
import inspect
import weakref
from collections.abc import Callable
from inspect import Parameter
from types import MethodType
from typing import Any, Final, Generic, TypeVar

from agentlightning.errors import AgentError
from agentlightning.litagent.task import rebuild
from agentlightning.types import NamedResources, Rollout

T = TypeVar("T")


class LitAgent(Generic[T]):
    """An agent. Subclasses override `rollout` or `rollout_async`, or variants of them for training and validation.

    Each method is given `(task, resources, rollout)`, or `(task, rollout_id, resources)` where it is declared so, and
    may be a plain or an `async def` function whatever its name. One that is decorated with `agl.rollout` is given what
    its parameters are named after. Those for training are called for rollouts of mode `train`, those for validation
    for all others, and `rollout` where there is no such method. What they return is the reward, or the rewards by name,
    or a list of spans, or None where rewards are emitted.

    A method that asks for anything else is refused with an `AgentError` where the class is written.

    While it is trained or run, it knows its `trainer`, `runner` and `tracer`. Each runner process has a copy of the
    agent and of its trainer: what is set on either there is seen by nobody else. They are not pickled with it.

    Args:
        trained_agents: A regular expression for the names of the agents inside this one that are trained: `agent_match`
            of the Trainer's adapter, where it has one. A subclass may set it as an attribute.

    Example:
        >>> import agentlightning as agl
        >>> class Greeter(agl.LitAgent[str]):
        ...     def rollout(self, task: str, resources: agl.NamedResources, rollout: agl.Rollout) -> float:
        ...         greeting = resources["prompt_template"].format(name=task)
        ...         return 1.0 if task in greeting else 0.0
        >>> Greeter().rollout("you", {"prompt_template": agl.PromptTemplate(template="Hi {name}")}, None)
        1.0
    """

    needs_resources = True
    """Whether resources are fetched for it."""
    trained_agents: str | None = None
    _trainer: "_Weak | None" = None
    _runner: "_Weak | None" = None

    def __init__(self, *args: Any, trained_agents: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # of another base, if there is one
        if trained_agents is not None:
            self.trained_agents = trained_agents

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _METHODS:
            if inspect.isfunction(method := cls.__dict__.get(name)):
                _check(MethodType(method, cls))

    @property
    def is_async(self) -> bool:
        """Whether its methods are async, so that many rollouts can share a loop; several methods must agree."""
        own = [method for name in _METHODS if (method := self._overridden(name)) is not None]
        return bool(own) and all(
            method.is_async if isinstance(method, LitAgent) else inspect.iscoroutinefunction(method) for method in own
        )

    def rollout(self, task: T, resources: NamedResources, rollout: Rollout) -> Any:
        """Do one task."""
        raise NotImplementedError(f"{type(self).__qualname__} has no method rollout")

    async def rollout_async(self, task: T, resources: NamedResources, rollout: Rollout) -> Any:
        """Do one task."""
        raise NotImplementedError(f"{type(self).__qualname__} has no method rollout_async")

    def training_rollout(self, task: T, resources: NamedResources, rollout: Rollout) -> Any:
        """Do one task of a rollout of mode `train`."""
        return self.rollout(task, resources, rollout)

    async def training_rollout_async(self, task: T, resources: NamedResources, rollout: Rollout) -> Any:
        """Do one task of a rollout of mode `train`."""
        return await self.rollout_async(task, resources, rollout)

    def validation_rollout(self, task: T, resources: NamedResources, rollout: Rollout) -> Any:
        """Do one task of a rollout of any other mode."""
        return self.rollout(task, resources, rollout)

    async def validation_rollout_async(self, task: T, resources: NamedResources, rollout: Rollout) -> Any:
        """Do one task of a rollout of any other mode."""
        return await self.rollout_async(task, resources, rollout)

    def set_trainer(self, trainer: Any) -> None:
        """Tell the agent its `Trainer`, which it does not keep alive; `fit` does so."""
        object.__setattr__(self, "_trainer", _Weak(trainer))  # the class may be a frozen one

    def get_trainer(self) -> Any:
        """The `Trainer` that trains it; in a runner process, a copy of it.

        Raises:
            AgentError: There is none, or none any more.
        """
        return self._known("trainer", self._trainer, "Trainer.fit() sets it, and set_trainer()")

    def set_runner(self, runner: Any) -> None:
        """Tell the agent its runner, which it does not keep alive; `run_context` does so."""
        object.__setattr__(self, "_runner", _Weak(runner))

    def get_runner(self) -> Any:
        """The `LitAgentRunner` that runs it in this process.

        Raises:
            AgentError: There is none, or none any more.
        """
        return self._known("runner", self._runner, "a runner sets it inside its run_context(), and set_runner()")

    def get_tracer(self) -> Any:
        """The tracer of its runner, else of its trainer.

        Raises:
            AgentError: It has neither.
        """
        runner = None if self._runner is None else self._runner()
        return (self.get_trainer() if runner is None else runner).tracer

    @property
    def trainer(self) -> Any:
        """As `get_trainer`."""
        return self.get_trainer()

    @property
    def runner(self) -> Any:
        """As `get_runner`."""
        return self.get_runner()

    @property
    def tracer(self) -> Any:
        """As `get_tracer`."""
        return self.get_tracer()

    def _known(self, what: str, reference: "_Weak | None", way_out: str) -> Any:
        known = None if reference is None else reference()
        if known is None:
            state = "has no" if reference is None else "no longer has its"
            raise AgentError(f"the agent {type(self).__qualname__} {state} {what}: {way_out}")
        return known

    def prepare(self, rollout: Rollout, resources: NamedResources) -> Callable[[], Any]:
        """The call, without arguments, that does a rollout; a coroutine function where the agent's method is one.

        Raises:
            AgentError: When no method is overridden, its parameters are not known, or the task does not fit.
            MissingResourceError: When the agent asks for a resource that is not there.
        """
        method = self._method_for(rollout)
        if isinstance(method, LitAgent):  # decorated
            return method.prepare(rollout, resources)
        task, *others = _check(method)
        given = {"resources": resources, "rollout": rollout, "rollout_id": rollout.rollout_id}
        names = {p.name for p in others} | ({"resources", "rollout"} if _takes_any(others) else set())
        arguments = {name: value for name, value in given.items() if name in names}
        return functools.partial(method, rebuild(rollout.input, method, task), **arguments)

    def _method_for(self, rollout: Rollout) -> Callable[..., Any]:
        kind = "training" if rollout.mode == "train" else "validation"
        names = [f"{kind}_rollout_async", f"{kind}_rollout", "rollout_async", "rollout"]
        for name in names:
            if (method := self._overridden(name)) is not None:
                return method
        raise AgentError(
            f"{type(self).__qualname__} cannot do a rollout of mode {rollout.mode!r}: it has none of the methods "
            f"{', '.join(names)}"
        )

    def _overridden(self, name: str) -> Callable[..., Any] | None:
        method: Callable[..., Any] = getattr(self, name)
        return None if getattr(method, "__func__", method) is getattr(LitAgent, name) else method


class _Weak:
    """A reference that keeps nothing alive, and that is pickled as one to nothing."""

    def __init__(self, target: object = None) -> None:
        self._target = None if target is None else weakref.ref(target)

    def __call__(self) -> Any:
        return None if self._target is None else self._target()

    def __reduce__(self) -> Any:
        return _Weak, ()


_METHODS: Final = (
    "rollout",
    "rollout_async",
    "training_rollout",
    "training_rollout_async",
    "validation_rollout",
    "validation_rollout_async",
)
_GIVEN: Final = frozenset({"resources", "rollout", "rollout_id"})
_VARIADIC: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def _check(method: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a bound method, the first of which is given the task and the others what they are named after.

    Raises:
        AgentError: When there is none for the task, or one that nothing can be given to.
    """
    signature = inspect.signature(method)
    parameters = list(signature.parameters.values())
    if not parameters:
        raise _refused(method, signature, "it has no parameter for the task")
    for parameter in parameters[1:]:
        if parameter.kind is Parameter.POSITIONAL_ONLY:
            raise _refused(method, signature, f"{parameter.name!r} is given by name, but is positional-only")
        optional = parameter.default is not Parameter.empty or parameter.kind in _VARIADIC
        if parameter.name not in _GIVEN and not optional:
            raise _refused(method, signature, f"nothing is given to {parameter.name!r}")
    return parameters


def _refused(method: Callable[..., Any], signature: inspect.Signature, reason: str) -> AgentError:
    name = getattr(method, "__qualname__", method)
    return AgentError(
        f"{name}{signature} cannot be called: {reason}; a method is given the task, and by name resources and rollout, "
        "or rollout_id and resources; decorate it with @agl.rollout to be given resources by their names"
    )


def _takes_any(parameters: list[Parameter]) -> bool:
    return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)
