"""Keeps what was dequeued: renews the leases of attempts from the gRPC thread, whatever the agent's own thread does."""

import asyncio
import logging
from dataclasses import dataclass

from agentlightning.errors import StoreError
from agentlightning.store.base import OnLost
from agentlightning.store.connection import connection_to
from agentlightning.store.convert import attempt_status_from_proto
from agentlightning.v1.attempt_pb2 import AttemptStatus
from agentlightning.v1.store_service_pb2 import AttemptRef, HeartbeatAttemptsRequest, HeartbeatAttemptsResponse

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    ref: AttemptRef
    interval: float
    on_lost: OnLost | None


class Leases:
    """The attempts that one client holds. Lives on the gRPC thread."""

    def __init__(self, address: str, retry_seconds: float) -> None:
        self._address = address
        self._retry_seconds = retry_seconds
        self._held: dict[str, _Held] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def hold(self, ref: AttemptRef, interval: float, on_lost: OnLost | None) -> None:
        """Renew the lease of an attempt until it is dropped or lost."""
        self._held[ref.attempt_id] = _Held(ref, interval, on_lost)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renew(), name="leases")

    def drop(self, attempt_id: str) -> None:
        """Renew no more."""
        self._held.pop(attempt_id, None)
        self._changed.set()

    async def close(self) -> None:
        """Renew nothing any more."""
        self._held.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _renew(self) -> None:
        """Heartbeat all of them at the shortest of their intervals, until there are none."""
        while self._held:
            self._changed.clear()
            shortest = min(held.interval for held in self._held.values())
            try:
                async with asyncio.timeout(shortest):
                    while self._held and shortest <= min(held.interval for held in self._held.values()):
                        await self._changed.wait()
                        self._changed.clear()
            except TimeoutError:
                await self._heartbeat()

    async def _heartbeat(self) -> None:
        request = HeartbeatAttemptsRequest(attempts=[held.ref for held in self._held.values()])
        try:
            answer = await connection_to(self._address).call(
                "HeartbeatAttempts", request, retry_seconds=self._retry_seconds
            )
        except StoreError as error:
            _log.warning("leases could not be renewed: %s", error)
            return
        for result in answer.results:
            if not result.held:
                self._lose(result)

    def _lose(self, result: HeartbeatAttemptsResponse.Result) -> None:
        held = self._held.pop(result.attempt_id, None)
        if held is None:
            return  # completed meanwhile
        known = result.status != AttemptStatus.ATTEMPT_STATUS_UNSPECIFIED
        status = attempt_status_from_proto(result.status) if known else None
        _log.warning("attempt %s of rollout %s is lost: %s", held.ref.attempt_id, held.ref.rollout_id, status)
        if held.on_lost is not None:
            held.on_lost(status)
