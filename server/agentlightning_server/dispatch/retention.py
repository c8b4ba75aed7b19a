"""What is kept and what goes: deletes on demand and in the background, step by step, with others writing in between."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from agentlightning.v1.store_service_pb2 import DeleteRolloutsRequest, DeleteRolloutsResponse

from agentlightning_server.config import Keep
from agentlightning_server.storage import deletions, requests
from agentlightning_server.storage.database import Database
from agentlightning_server.storage.rows import micros
from agentlightning_server.storage.transaction import Transaction

_log = logging.getLogger(__name__)
_INTERVAL = timedelta(hours=1)
_SHORTEST_INTERVAL = timedelta(minutes=1)


class Retention:
    """Deletes what a caller names, and what is beyond what is kept."""

    def __init__(self, database: Database, keep: Keep) -> None:
        self._database = database
        self._keep = keep

    async def delete(self, request: DeleteRolloutsRequest) -> DeleteRolloutsResponse:
        """Delete what was asked for; see DeleteRollouts.

        Once the caller goes away no more rollouts are deleted; the spans of those that were go with the next sweep.
        """
        ended_for = micros(request.ended_for) if request.HasField("ended_for") else None
        if request.rollout_ids:
            answer = await self._delete_named(list(dict.fromkeys(request.rollout_ids)), request.run_id, ended_for)
        else:
            deleted = await self._repeat(partial(deletions.delete_ended, run_id=request.run_id, ended_for=ended_for))
            answer = DeleteRolloutsResponse(deleted_count=deleted)
        await self._clear()
        return answer

    async def sweep(self) -> None:
        """Delete everything that is beyond what is kept, and what an earlier deletion left unfinished."""
        rollouts, workers = 0, 0
        if self._keep.time is not None:
            time = self._keep.time // timedelta(microseconds=1)
            rollouts += await self._repeat(partial(deletions.delete_ended, run_id="", ended_for=time))
            workers += await self._repeat(partial(deletions.delete_workers, silent_for=time))
        if self._keep.runs is not None:
            for run_id in await self._database.read(partial(deletions.old_runs, kept=self._keep.runs)):
                rollouts += await self._repeat(partial(deletions.delete_ended, run_id=run_id, ended_for=None))
        await self._repeat(requests.forget)
        await self._repeat(deletions.forget_tombstones)
        await self._clear()
        if rollouts or workers:
            _log.info("deleted %d rollouts and %d workers that are not to be kept longer", rollouts, workers)

    async def sweep_for_ever(self) -> None:
        """Sweep now and then; what fails is tried again the next time."""
        interval = _INTERVAL if self._keep.time is None else max(_SHORTEST_INTERVAL, min(_INTERVAL, self._keep.time))
        while True:
            try:
                await self.sweep()
            except Exception as error:
                _log.error("what is not to be kept cannot be deleted, trying again in %s: %s", interval, error)
            await asyncio.sleep(interval.total_seconds())

    async def _delete_named(self, rollout_ids: list[str], run_id: str, ended_for: int | None) -> DeleteRolloutsResponse:
        answer = DeleteRolloutsResponse()
        while rollout_ids:
            step = await self._database.write(
                partial(deletions.delete_named, rollout_ids=rollout_ids, run_id=run_id, ended_for=ended_for)
            )
            answer.deleted_count += step.deleted_count
            answer.kept_rollout_ids.extend(step.kept_rollout_ids)
            answer.unknown_rollout_ids.extend(step.unknown_rollout_ids)
            done = step.deleted_count + len(step.kept_rollout_ids) + len(step.unknown_rollout_ids)
            rollout_ids = rollout_ids[done:]
        return answer

    async def _clear(self) -> None:
        """Delete the spans of deleted rollouts, and give the room back."""
        await self._repeat(deletions.delete_spans)
        if await self._repeat(deletions.free_pages):
            await self._database.shrink()

    async def _repeat(self, step: Callable[[Transaction], int]) -> int:
        """Run an operation, each time in a commit with whoever else writes, until it finds nothing more to do."""
        total = 0
        while done := await self._database.write(step):
            total += done
        return total
