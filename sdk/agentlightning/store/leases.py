"""Keeps what was dequeued: renews the leases of attempts from the gRPC thread, whatever the agent's own thread does."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from agentlightning.errors import StoreError
from agentlightning.store.base import OnLost
from agentlightning.store.connection import connection_to
from agentlightning.store.convert import attempt_status_from_proto
from agentlightning.store.losses import Losses
from agentlightning.v1.attempt_pb2 import AttemptStatus
from agentlightning.v1.store_service_pb2 import AttemptRef, HeartbeatAttemptsRequest

_log = logging.getLogger(__name__)
_MAX_BATCH = 1000
_MOMENT = 0.1
"""Seconds; an attempt that is over sooner is not worth a word."""


@dataclass(frozen=True, slots=True)
class _Held:
    ref: AttemptRef
    interval: float
    on_lost: OnLost | None


class Leases:
    """The attempts that one client holds in one process. Lives on the gRPC thread."""

    def __init__(self, address: str, retry_seconds: float) -> None:
        self._address = address
        self._retry_seconds = retry_seconds
        self._held: dict[str, _Held] = {}
        self._ending: dict[str, list[AttemptStatus.ValueType]] = {}
        self._shortest = 0.0
        self._is_sooner = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._losses = Losses(address, lambda: [held.ref for held in self._held.values()], self._lose)

    @property
    def are_here(self) -> bool:
        """Whether they were not left behind by a fork."""
        return self._loop is asyncio.get_running_loop()

    def hold(self, ref: AttemptRef, interval: float, on_lost: OnLost | None) -> None:
        """Renew the lease of an attempt until it is dropped or lost."""
        self._held[ref.attempt_id] = _Held(ref, interval, on_lost)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renew(), name="leases")
        elif interval < self._shortest:
            self._is_sooner.set()
        self._loop.call_later(_MOMENT, self._hear_of, ref)

    @contextmanager
    def ending(self, attempt_id: str) -> Iterator[None]:
        """While the block runs its holder may end the attempt: what is heard of its end counts only if it did not."""
        heard = self._ending.setdefault(attempt_id, [])
        try:
            yield
        finally:
            self._ending.pop(attempt_id, None)
            for status in heard:
                self._lose(attempt_id, status)

    def drop(self, attempt_id: str) -> None:
        """Renew no more."""
        self._take(attempt_id)

    async def close(self) -> None:
        """Renew nothing any more."""
        self._held.clear()
        await self._losses.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _renew(self) -> None:
        """Heartbeat all of them at the shortest of their intervals, until there are none."""
        while self._held:
            self._is_sooner.clear()
            self._shortest = min(held.interval for held in self._held.values())
            try:
                async with asyncio.timeout(self._shortest):
                    await self._is_sooner.wait()
            except TimeoutError:
                await self._heartbeat()

    async def _heartbeat(self) -> None:
        refs = iter([held.ref for held in self._held.values()])
        while batch := [*islice(refs, _MAX_BATCH)]:
            try:
                answer = await connection_to(self._address).call(
                    "HeartbeatAttempts", HeartbeatAttemptsRequest(attempts=batch), retry_seconds=self._retry_seconds
                )
            except StoreError as error:
                _log.warning("leases could not be renewed: %s", error)
                return
            for result in answer.results:
                if not result.held:
                    self._lose(result.attempt_id, result.status)

    def _hear_of(self, ref: AttemptRef) -> None:
        if ref.attempt_id in self._held:
            self._losses.hold(ref)

    def _take(self, attempt_id: str) -> _Held | None:
        held = self._held.pop(attempt_id, None)
        if held is not None and not self._held:
            self._losses.rest()
        return held

    def _lose(self, attempt_id: str, proto_status: "AttemptStatus.ValueType") -> None:
        if attempt_id in self._ending:
            self._ending[attempt_id].append(proto_status)
            return
        held = self._take(attempt_id)
        if held is None:
            return  # ended by its holder
        known = proto_status != AttemptStatus.ATTEMPT_STATUS_UNSPECIFIED
        status = attempt_status_from_proto(proto_status) if known else None
        _log.warning("attempt %s of rollout %s is lost: %s", held.ref.attempt_id, held.ref.rollout_id, status)
        if held.on_lost is not None:
            held.on_lost(status)
