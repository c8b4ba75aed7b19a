"""Hears from the store which attempts are lost, the moment they are. Knows no lease: whoever holds those is told."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence

import grpc

from agentlightning.store.connection import connection_to
from agentlightning.store.convert import seconds
from agentlightning.v1.attempt_pb2 import AttemptStatus
from agentlightning.v1.store_service_pb2 import AttemptRef, StreamDequeueRequest

_MAX_HELD = 1000
_LINGER = 30.0
_FIRST_PAUSE, _LAST_PAUSE, _PAUSE_GROWTH = 0.1, 5.0, 1.6

Told = Callable[[str, "AttemptStatus.ValueType"], None]


class Losses:
    """One stream to one store, open as long as there is something to hear of. Lives on the gRPC thread.

    It only tells sooner what heartbeats tell as well. So a store without it, or a network that cuts it, is no error.

    Args:
        address: The store's.
        held: The attempts to hear of, whenever a stream is opened.
        on_lost: Told the id and the status of each that is lost.
    """

    def __init__(self, address: str, held: Callable[[], Sequence[AttemptRef]], on_lost: Told) -> None:
        self._address = address
        self._held = held
        self._on_lost = on_lost
        self._is_served = True
        self._pause = _FIRST_PAUSE
        self._requests: asyncio.Queue[StreamDequeueRequest | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._rest: asyncio.TimerHandle | None = None

    def hold(self, ref: AttemptRef) -> None:
        """Hear of an attempt that is held from now on."""
        self._cancel_rest()
        if self._task is not None and not self._task.done():
            self._requests.put_nowait(StreamDequeueRequest(hold=ref))
        elif self._is_served:
            self._task = asyncio.create_task(self._listen_while_held(), name="losses")

    def rest(self) -> None:
        """Nothing is held now: end the stream, unless there is something soon, as for a worker at its next rollout."""
        self._cancel_rest()
        self._rest = asyncio.get_running_loop().call_later(_LINGER, self._half_close)

    async def close(self) -> None:
        """Hear nothing any more."""
        self._cancel_rest()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listen_while_held(self) -> None:
        while self._held():
            try:
                await self._listen()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    self._is_served = False
                    return
                self._pause = min(self._pause * _PAUSE_GROWTH, _LAST_PAUSE)
            await asyncio.sleep(self._pause * random.uniform(0.8, 1.2))

    async def _listen(self) -> None:
        """Open a stream, and hear what it tells until it ends."""
        self._requests = asyncio.Queue()
        held = self._held()
        opening = StreamDequeueRequest.Open(held=held[:_MAX_HELD])
        self._requests.put_nowait(StreamDequeueRequest(open=opening))
        for ref in held[_MAX_HELD:]:
            self._requests.put_nowait(StreamDequeueRequest(hold=ref))
        call = connection_to(self._address).stub.StreamDequeue(_until_none(self._requests))
        try:
            async for message in call:
                match message.WhichOneof("message"):
                    case "opened":
                        self._pause = _FIRST_PAUSE
                    case "lost":
                        self._on_lost(message.lost.attempt.attempt_id, message.lost.status)
                    case "go_away":
                        self._pause = seconds(message.go_away.reconnect_after)
                        self._half_close()
        finally:
            self._half_close()
            call.cancel()

    def _cancel_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()

    def _half_close(self) -> None:
        self._requests.put_nowait(None)


async def _until_none(requests: "asyncio.Queue[StreamDequeueRequest | None]") -> AsyncIterator[StreamDequeueRequest]:
    while (request := await requests.get()) is not None:
        yield request
