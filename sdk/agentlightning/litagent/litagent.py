"""What an agent is: an object with a method for one rollout. Knows neither who runs it nor how it is recorded."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from agentlightning.errors import AgentError
from agentlightning.litagent.task import rebuild
from agentlightning.types import NamedResources, Rollout

T = TypeVar("T")


class LitAgent(Generic[T]):
    """An agent. Subclasses override `rollout` or `rollout_async`, or variants of them for training and validation.

    Each method is given `(task, resources, rollout)`, or `(task, rollout_id, resources)` where it is declared so, and
    may be a plain or an `async def` function whatever its name. Those for training are called for rollouts of mode
    `train`, those for validation for all others, and `rollout` where there is no such method. What they return is the
    reward, or the rewards by name, or a list of spans, or None where rewards are emitted.
    """

    needs_resources = True
    """Whether resources are fetched for it."""

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

    def prepare(self, rollout: Rollout, resources: NamedResources) -> Callable[[], Any]:
        """The call, without arguments, that does a rollout; a coroutine function where the agent's method is one.

        Raises:
            AgentError: When no method is overridden, its parameters are not known, or the task does not fit.
            MissingResourceError: When the agent asks for a resource that is not there.
        """
        method = self._method_for(rollout)
        signature = inspect.signature(method)
        given = {"resources": resources, "rollout": rollout, "rollout_id": rollout.rollout_id}
        parameters = list(signature.parameters.values())
        required = {p.name for p in parameters[1:] if p.default is p.empty and p.kind not in _VARIADIC}
        if not parameters or required - given.keys():
            raise AgentError(
                f"{method.__qualname__}{signature} cannot be called: it is given the task, and by name resources and "
                "rollout, or rollout_id and resources"
            )
        names = {p.name for p in parameters} | ({"resources", "rollout"} if _takes_any(parameters) else set())
        arguments = {name: value for name, value in given.items() if name in names}
        return functools.partial(method, rebuild(rollout.input, method, parameters[0]), **arguments)

    def _method_for(self, rollout: Rollout) -> Callable[..., Any]:
        kind = "training" if rollout.mode == "train" else "validation"
        names = [f"{kind}_rollout_async", f"{kind}_rollout", "rollout_async", "rollout"]
        for name in names:
            method = getattr(self, name)
            if getattr(method, "__func__", method) is not getattr(LitAgent, name):
                return method  # type: ignore[no-any-return]
        raise AgentError(
            f"{type(self).__qualname__} cannot do a rollout of mode {rollout.mode!r}: it has none of the methods "
            f"{', '.join(names)}"
        )


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _takes_any(parameters: list[inspect.Parameter]) -> bool:
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
