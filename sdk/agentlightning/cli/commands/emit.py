"""`agl emit`: rewards and spans from within a rollout, on disk when it returns. Knows who it is by the environment.

It reads no settings and imports neither the client nor the other commands: an agent waits for it.
"""

import argparse
import json
import math
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from agentlightning.address import parse_address
from agentlightning.cli.errors import NotUnderstoodError
from agentlightning.cli.parser import Parser
from agentlightning.errors import StoreError
from agentlightning.semconv import ANNOTATION_SPAN, PRIMARY_REWARD_NAME, REWARD_PREFIX

_SECONDS: Final = 60.0
"""How long a store that is away is waited for."""
RETRIES: Final = {
    "methodConfig": [
        {
            "name": [{"service": "agentlightning.v1.StoreService", "method": "AddSpans"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 1.6,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_DESCRIPTION = """\
Record something of the rollout in progress. It returns when the store has it on disk, and refuses outside of a rollout:
AGL_STORE, AGL_ROLLOUT_ID and AGL_ATTEMPT_ID say which, as `agl runner --command` sets them for what it runs.
"""


def add_command(commands: Any, common: argparse.ArgumentParser | None = None) -> None:
    """Add the commands to those of a parser."""
    emit = commands.add_parser("emit", help="record rewards and spans from within a command that is an agent")
    verbs = emit.add_subparsers(required=True, metavar="COMMAND")
    rewards = verbs.add_parser(
        "reward",
        help="a reward",
        description=_DESCRIPTION,
        epilog="example: agl emit reward accuracy=1 brevity=0.5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rewards.add_argument(
        "reward", nargs="+", metavar="[NAME=]NUMBER", help="the numbers, the first of which is the primary one"
    )
    rewards.add_argument("--name", default=PRIMARY_REWARD_NAME, help="the name of a number without (default: primary)")
    rewards.set_defaults(alone=emit_reward)
    spans = verbs.add_parser(
        "span",
        help="spans without a length",
        description=_DESCRIPTION,
        epilog="example: agl emit span search --attribute found=3",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    spans.add_argument("span", nargs="+", metavar="NAME", help="what is done, a span each")
    spans.add_argument(
        "--attribute", action="append", default=[], metavar="KEY=VALUE", help="a text that each has; may be given again"
    )
    spans.set_defaults(alone=emit_spans)


def run(arguments: list[str]) -> int:
    """Run what a command line says that begins with `emit`."""
    parser = Parser(prog="agl")
    add_command(parser.add_subparsers(required=True, metavar="COMMAND"))
    # What is no UTF-8 is replaced, as in all that a command prints.
    parsed = parser.parse_args([os.fsencode(text).decode(errors="replace") for text in arguments])
    return int(parsed.alone(parsed))


def emit_reward(arguments: argparse.Namespace) -> int:
    """Record a reward."""
    numbers = dict(_number(text, arguments.name) for text in arguments.reward)
    if len(numbers) < len(arguments.reward):
        raise NotUnderstoodError(f"the reward is {' '.join(arguments.reward)!r}, expected each number by its own name")
    attributes: dict[str, str | float] = {}
    for index, (name, value) in enumerate(numbers.items()):
        attributes |= {f"{REWARD_PREFIX}.{index}.name": name, f"{REWARD_PREFIX}.{index}.value": value}
    return _send([ANNOTATION_SPAN], attributes)


def emit_spans(arguments: argparse.Namespace) -> int:
    """Record spans."""
    attributes = {}
    for text in arguments.attribute:
        name, is_pair, value = text.partition("=")
        if not name or not is_pair:
            raise NotUnderstoodError(f"--attribute is {text!r}, expected KEY=VALUE")
        attributes[name] = value
    return _send(arguments.span, attributes)


def _number(text: str, name: str) -> tuple[str, float]:
    before, is_named, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (is_named and not before):
        raise NotUnderstoodError(f"the reward is {text!r}, expected a finite number, or NAME=NUMBER")
    return before or name, value


def _send(names: Iterable[str], attributes: Mapping[str, str | float]) -> int:
    """Have the store keep spans.

    Raises:
        NotUnderstoodError: No rollout is in progress here.
        StoreError: The store refuses them, or does not answer.
    """
    from agentlightning.v1 import store_service_pb2

    address, ids = _variable("AGL_STORE"), (_variable("AGL_ROLLOUT_ID"), _variable("AGL_ATTEMPT_ID"))
    request = store_service_pb2.AddSpansRequest(spans=[_span(name, attributes, *ids) for name in names])
    for result in _call(address, request).results:
        if result.error_reason:
            raise StoreError(result.error_message, reason=result.error_reason)
    return 0


def _call(address: str, request: Any) -> Any:
    import grpc

    from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub

    target, secure = parse_address(address)
    options = [("grpc.service_config", json.dumps(RETRIES))]
    if secure:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
    else:
        channel = grpc.insecure_channel(target, options)
    with channel:
        try:
            return StoreServiceStub(channel).AddSpans(request, timeout=_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            raise StoreError(f"the store at {address} did not take it: {error.details()}") from None


def _span(name: str, attributes: Mapping[str, str | float], rollout_id: str, attempt_id: str) -> Any:
    from agentlightning.v1 import span_pb2

    trace_id, parent_id = _parent()
    now = time.time_ns()
    span = span_pb2.Span(
        rollout_id=rollout_id,
        attempt_id=attempt_id,
        trace_id=trace_id,
        span_id=secrets.token_hex(8),
        parent_span_id=parent_id,
        name=name,
        kind=span_pb2.SPAN_KIND_INTERNAL,
    )
    span.start_time.FromNanoseconds(now)
    span.end_time.FromNanoseconds(now)
    for key, value in attributes.items():
        attribute = span.attributes.add(key=key).value
        if isinstance(value, str):
            attribute.string_value = value
        else:
            attribute.double_value = value
    return span


def _parent() -> tuple[str, str]:
    """The span in progress, as W3C writes it; without one, a trace of its own."""
    parts = os.environ.get("TRACEPARENT", "").split("-")
    if len(parts) == 4 and len(parts[1]) == 32 and len(parts[2]) == 16:
        return parts[1], parts[2]
    return secrets.token_hex(16), ""


def _variable(name: str) -> str:
    if value := os.environ.get(name):
        return value
    raise NotUnderstoodError(
        f"there is no rollout here, as {name} is not set: agl runner --command sets it for the command that it runs"
    )
