"""Stands between a store and the runner under test: writes down what passes, and does what networks and stores may do.

It knows the protocol's messages and nothing of what a runner should make of them; that is the scenarios' business.
Every call is passed on as a stream of messages, which is what a unary call is too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
from agentlightning.v1 import store_service_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

OUR_METADATA = ("grpc-", "user-agent", ":")
"""What gRPC itself writes into a call's metadata; it is not passed on, but written anew."""
OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)
TYPES = {
    f"/{service.full_name}/{method.name}": (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
    for pb in (store_service_pb2, trace_service_pb2)
    for service in pb.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""By path, what is asked and what is answered."""


class AnswerLostError(Exception):
    """A fault raises it for an answer that is not to arrive: the call breaks off."""


Fault = Callable[[str, Message], list[Message]]
"""Is given the method and a message, and says what is to arrive in its place."""


@dataclass(frozen=True)
class Said:
    """One message of a call, or its end.

    Attributes:
        at: When, by the monotonic clock.
        call: The call's number.
        method: Its name, without the service.
        by: `runner` or `store`.
        message: What was said. None: the call ended.
        status: How it ended.
        has_arrived: Whether the other side was given it as it was said. A call that was broken off has not.
    """

    at: float
    call: int
    method: str
    by: str
    message: Any = None
    status: grpc.StatusCode | None = None
    has_arrived: bool = True


class Bell:
    """Wakes all who wait for anything to have changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def rung(self) -> None:
        await self._event.wait()


class Proxy(grpc.GenericRpcHandler):
    """What the runner takes for the store.

    Attributes:
        address: Where it listens, whatever becomes of the store.
        record: Everything that was said, in order.
        bell: Rung when something was.
        request_faults: What becomes of requests.
        answer_faults: What becomes of answers.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._port = 0
        self._calls = 0
        self.record: list[Said] = []
        self.bell = Bell()
        self.request_faults: list[Fault] = []
        self.answer_faults: list[Fault] = []

    async def __aenter__(self) -> "Proxy":
        self._channel = grpc.aio.insecure_channel(self._store, options=OPTIONS)
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        await self._channel.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def listen(self) -> None:
        """Take connections."""
        self._server = grpc.aio.server(handlers=[self], options=OPTIONS)
        self._port = self._server.add_insecure_port(self.address)
        await self._server.start()

    async def refuse(self) -> None:
        """Break every call, and take no connections."""
        await self._server.stop(None)

    @contextmanager
    def answering(self, *faults: Fault) -> Iterator[None]:
        """Have answers changed for a while."""
        with _among(self.answer_faults, faults):
            yield

    @contextmanager
    def asking(self, *faults: Fault) -> Iterator[None]:
        """Have requests changed for a while."""
        with _among(self.request_faults, faults):
            yield

    def note(self, said: Said) -> None:
        """Write something down and tell those who wait."""
        self.record.append(said)
        self.bell.ring()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """gRPC asks who serves a method: whatever it is, it is passed on."""
        path = str(handler_call_details.method)

        async def pass_on(requests: AsyncIterator[bytes], context: Any) -> None:
            self._calls += 1
            await _Exchange(self, self._channel, path, self._calls).run(requests, context)

        return grpc.stream_stream_rpc_method_handler(pass_on)


class _Exchange:
    """One call."""

    def __init__(self, proxy: Proxy, channel: grpc.aio.Channel, path: str, number: int) -> None:
        self._proxy = proxy
        self._channel = channel
        self._path = path
        self._number = number
        self._method = path.rpartition("/")[2]
        self._asked: Any
        self._answered: Any
        self._asked, self._answered = TYPES.get(path, (None, None))

    async def run(self, requests: AsyncIterator[bytes], context: Any) -> None:
        metadata = [(key, value) for key, value in context.invocation_metadata() if not key.startswith(OUR_METADATA)]
        call: Any = self._channel.stream_stream(self._path)(metadata=metadata, timeout=context.time_remaining())
        asking = asyncio.create_task(self._ask(requests, call))
        try:
            await self._answer(call, context)
        except AnswerLostError:
            self._end(grpc.StatusCode.UNAVAILABLE, has_arrived=False)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
        except asyncio.CancelledError:
            self._proxy.note(self._said("runner", status=grpc.StatusCode.CANCELLED))
            raise
        finally:
            asking.cancel()
            call.cancel()
            await asyncio.wait({asking})

    async def _ask(self, requests: AsyncIterator[bytes], call: Any) -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            async for data in requests:
                request = self._asked.FromString(data) if self._asked else None
                for changed in _under(self._proxy.request_faults, self._method, request):
                    self._proxy.note(self._said("runner", changed))
                    await call.write(changed.SerializeToString() if self._asked else data)
            self._proxy.note(self._said("runner", status=grpc.StatusCode.OK))
            await call.done_writing()

    async def _answer(self, call: Any, context: Any) -> None:
        try:
            async for data in call:
                if self._answered is None:
                    await context.write(data)
                    continue
                answer = self._answered.FromString(data)
                try:
                    changed = _under(self._proxy.answer_faults, self._method, answer)
                except AnswerLostError:
                    self._proxy.note(self._said("store", answer, has_arrived=False))
                    raise
                for message in changed:
                    self._proxy.note(self._said("store", message))  # before the runner can act on it
                    await context.write(message.SerializeToString())
        except grpc.aio.AioRpcError:
            pass
        code, details = await call.code(), await call.details()
        trailing = tuple(pair for pair in await call.trailing_metadata() if not pair[0].startswith(OUR_METADATA[1:]))
        self._end(code)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, details or "", trailing)
        context.set_trailing_metadata(trailing)

    def _end(self, status: grpc.StatusCode, has_arrived: bool = True) -> None:
        self._proxy.note(self._said("store", status=status, has_arrived=has_arrived))

    def _said(self, by: str, message: Any = None, **how: Any) -> Said:
        return Said(time.monotonic(), self._number, self._method, by, message, **how)


@contextmanager
def _among(faults: list[Fault], more: tuple[Fault, ...]) -> Iterator[None]:
    faults.extend(more)
    try:
        yield
    finally:
        for fault in more:
            faults.remove(fault)


def _under(faults: list[Fault], method: str, message: Any) -> list[Any]:
    messages = [message]
    for fault in faults:
        messages = [changed for message in messages for changed in fault(method, message)]
    return messages
