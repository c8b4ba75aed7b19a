"""Parts of training from what users write for them: an object, a class, a function, a name, a path or a dict.

Knows parts by name, so that none is loaded before it is asked for, and no step of training.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from agentlightning.errors import TrainerError


@dataclass(frozen=True)
class Part:
    """What a parameter of `Trainer` takes.

    Attributes:
        parameter: The parameter.
        kind: The class of which it has to be, as `module:Class`.
        names: The short names, and where what they stand for is, as `module:name`.
        untyped: The short name that a dict without "type" configures. Empty: a dict has to have one.
        also: What else it takes, for its errors.
    """

    parameter: str
    kind: str
    names: Mapping[str, str] = field(default_factory=dict)
    untyped: str = ""
    also: str = ""

    def refused(self, value: object, reason: str) -> TrainerError:
        """The error for a value that cannot be used, with the forms that can."""
        name = self.kind.partition(":")[2]
        also = f"{self.also}, " if self.also else ""
        named = f", one of the names {', '.join(map(repr, self.names))}" if self.names else ""
        untyped = f" (without it: the arguments of {self.untyped})" if self.untyped else ""
        return TrainerError(
            f"{self.parameter} is {value!r}, {reason}; expected {also}an object of the class {name}, such a class, "
            f"a function that makes one{named}, an import path such as 'package.module.name', or a dict with \"type\", "
            f"which is any of these, and its arguments{untyped}"
        )


ALGORITHM = Part(
    "algorithm",
    "agentlightning.algorithm:Algorithm",
    {
        "apo": "agentlightning_algorithms.apo:APO",
        "baseline": "agentlightning_algorithms.baseline:Baseline",
        "gepa": "agentlightning_algorithms.gepa:GEPA",
    },
)
ADAPTER = Part(
    "adapter",
    "agentlightning.adapter:TraceAdapter",
    {
        name: f"agentlightning.adapter:{name}"
        for name in ("TraceToMessages", "TracerTraceToTriplet", "LlmProxyTraceToTriplet")
    },
    untyped="TracerTraceToTriplet",
)
TRACER = Part(
    "tracer",
    "agentlightning.tracer:Tracer",
    {name: f"agentlightning.tracer:{name}" for name in ("Tracer", "OtelTracer", "AgentOpsTracer")},
)
STORE = Part(
    "store",
    "agentlightning.store:LightningStoreClient",
    {"LightningStoreClient": "agentlightning.store:LightningStoreClient"},
    also="an address such as 'localhost:4747', a folder, a database file",
)
RUNNER = Part(
    "runner", "agentlightning.runner:LitAgentRunner", {"LitAgentRunner": "agentlightning.runner:LitAgentRunner"}
)
STRATEGY = Part(
    "strategy",
    "agentlightning.trainer.runners.execution:ExecutionStrategy",
    {name: name for name in ("processes", "cs", "threads", "shm", "remote")},
)
HOOK = Part("hooks", "agentlightning.runner:Hook")


def build(part: Part, spec: object, /, **offered: Any) -> Any:
    """Make a part out of what was written for it.

    Args:
        part: Which.
        spec: What was written.
        offered: Arguments for what has such parameters and was not given them.

    Raises:
        TrainerError: It is none of the accepted forms, needs arguments that it was not given, or made something else.
    """
    kind = _load(part.kind)
    made = spec
    if isinstance(spec, Mapping):
        arguments = {str(key): value for key, value in spec.items()}
        typed = arguments.pop("type", part.untyped)
        if not typed:
            raise part.refused(spec, 'a dict without "type"')
        made = _call(part, spec, named(part, typed), arguments, offered)
    elif isinstance(made := named(part, spec), type) or not isinstance(made, kind):
        made = _call(part, spec, made, {}, offered)
    if not isinstance(made, kind):
        raise part.refused(spec, f"which makes {made!r}")
    return made


def named(part: Part, spec: object) -> object:
    """What a short name or an import path stands for; anything else is what it is.

    Raises:
        TrainerError: It stands for nothing.
    """
    if not isinstance(spec, str):
        return spec
    path = part.names.get(spec) or part.names.get(spec.lower()) or spec
    try:
        return _load(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise part.refused(
            spec, f"which cannot be found ({error})" if "." in spec else "which is no short name"
        ) from error


def _call(part: Part, spec: object, make: object, arguments: dict[str, Any], offered: Mapping[str, Any]) -> Any:
    if not callable(make):
        raise part.refused(spec, f"of the type {type(make).__qualname__}")
    parameters = _parameters(make)
    arguments = {name: value for name, value in offered.items() if name in parameters} | arguments
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as error:
        raise part.refused(spec, f"which cannot be made: {error}") from error
    except ValueError:  # the signature of some builtins cannot be read
        pass
    return make(**arguments)


def _parameters(make: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(make).parameters
    except ValueError:
        return {}


def _load(path: str) -> Any:
    """What a path such as `package.module:Class.method` or `package.module.name` names."""
    module, colon, name = path.partition(":")
    if not colon:
        module, _, name = path.rpartition(".")
    found: Any = import_module(module)
    for attribute in name.split("."):
        found = getattr(found, attribute)
    return found
