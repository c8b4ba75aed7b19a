"""The store's long streams, waits and watches, taken up again where they broke. Lives on the gRPC thread."""

import asyncio
from collections.abc import Callable, Sequence

import grpc

from agentlightning.store import convert
from agentlightning.store.connection import Backoff, answered, connection_to
from agentlightning.types import Change, Rollout
from agentlightning.v1 import store_service_pb2 as pb

_MAX_WAIT_IDS = 10_000


async def wait(
    address: str,
    retry_seconds: float,
    rollout_ids: Sequence[str],
    emit: Callable[[Rollout], None],
    *,
    timeout: float | None,
    any_of: bool = False,
) -> None:
    """Emit each rollout once it is terminal, until all are, one is where that is enough, or the time is up."""
    convert.duration("timeout", timeout)  # NaN would be no time at all, unnoticed
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    backoff = Backoff(retry_seconds)
    pending = dict.fromkeys(rollout_ids)
    emitted = False
    while pending and not (any_of and emitted):
        left = None if deadline is None else max(0.0, deadline - loop.time())
        ids = list(pending)[: None if any_of else _MAX_WAIT_IDS]
        request = pb.WaitRolloutsRequest(rollout_ids=ids, any=any_of, wait_timeout=convert.duration("timeout", left))
        connection = connection_to(address)
        call = connection.stub.WaitRollouts(request)
        try:
            async for message in call:
                backoff.reset()
                answered(connection.target)
                for rollout_id in (*message.unknown_rollout_ids, *(r.rollout_id for r in message.rollouts)):
                    pending.pop(rollout_id, None)
                for rollout in message.rollouts:
                    emit(convert.rollout_from_proto(rollout))
                    emitted = True
        except grpc.aio.AioRpcError as error:
            await backoff.pause_or_raise(error, connection.target)
        else:
            for rollout_id in ids:  # those that are left were not terminal in time
                pending.pop(rollout_id, None)
        finally:
            call.cancel()


class Watch:
    """What changes in a store from a revision on."""

    def __init__(self, address: str, retry_seconds: float, request: pb.WatchRequest) -> None:
        self._address = address
        self._retry_seconds = retry_seconds
        self._request = request
        self._call: grpc.aio.UnaryStreamCall[pb.WatchRequest, pb.WatchResponse] | None = None

    async def next(self) -> list[Change]:
        """The next changes, perhaps none yet.

        Raises:
            StoreError: The store refused, or could not be reached for `retry_seconds`.
        """
        backoff = Backoff(self._retry_seconds)
        while True:
            connection = connection_to(self._address)
            if self._call is None:
                self._call = connection.stub.Watch(self._request)
            try:
                message = await self._call.read()
            except grpc.aio.AioRpcError as error:
                self._call = None
                await backoff.pause_or_raise(error, connection.target)
                continue
            answered(connection.target)
            if not isinstance(message, pb.WatchResponse):  # the server ended the stream
                self._call = None
                return []
            self._request.after_revision = message.revision
            return [convert.change_from_proto(change) for change in message.changes]

    async def close(self) -> None:
        """Watch no more."""
        if self._call is not None:
            self._call.cancel()
