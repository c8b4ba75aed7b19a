"""One attempt from its claim to its report: resources, agent, spans, outcome. Knows no queue."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentlightning.emitter import find_final_reward
from agentlightning.errors import AttemptLostError, StoreError
from agentlightning.litagent import LitAgent
from agentlightning.runner.delivery import SpanDelivery
from agentlightning.runner.execution import AttemptAbandoned, execute
from agentlightning.runner.failure import AttemptFailed, failure_of
from agentlightning.runner.hold import Hold
from agentlightning.runner.hooks import Hooks
from agentlightning.runner.resources import ResourceReader
from agentlightning.runner.result import record_result
from agentlightning.store.base import LightningStore
from agentlightning.tracer import AttemptTrace, Tracer
from agentlightning.types import AttemptedRollout, AttemptStatus, Failure, Span

_log = logging.getLogger(__name__)

STOP_SECONDS: Final = 5.0
"""How long a runner that stops tries to tell the store what it leaves undone."""
_STOPPED: Final = (asyncio.CancelledError, KeyboardInterrupt)


class Worker:
    """Runs attempts of one agent for one store, any number at once.

    Args:
        name: The worker's name in the log.
        agent: The agent.
        store: What the attempts are reported to.
        tracer: What records them.
        hooks: What is done around them.
    """

    def __init__(self, name: str, agent: LitAgent[Any], store: LightningStore, tracer: Tracer, hooks: Hooks) -> None:
        self.name = name
        self._agent = agent
        self._store = store
        self._tracer = tracer
        self._hooks = hooks
        self._resources = ResourceReader(store)
        self._delivery = SpanDelivery(store)

    def close(self) -> None:
        """Send no more spans."""
        self._delivery.close()

    async def attempt(self, rollout: AttemptedRollout, hold: Hold) -> BaseException | None:
        """Run an attempt and report it to the store.

        Returns:
            What the agent raised, after that was reported.

        Raises:
            StoreError: When the outcome could not be reported.
        """
        began = time.perf_counter()
        record = _Record()
        error: BaseException | None = None
        try:
            await self._run(rollout, hold, record)
        except AttemptAbandoned:
            await self._abandon(rollout, hold.lost.result())
            return None
        except (Exception, SystemExit, asyncio.CancelledError, KeyboardInterrupt) as caught:
            error = caught
        self._log(rollout, record.spans, error, time.perf_counter() - began)
        if isinstance(error, _STOPPED):
            if not hold.lost.done():
                await self._report_soon(rollout, self._complete(rollout, failure_of(error), record.lost_spans))
            raise error
        await self._report(rollout, failure_of(error) if error else None, record.lost_spans)
        return error

    async def _run(self, rollout: AttemptedRollout, hold: Hold, record: "_Record") -> None:
        """Trace the agent, and record what became of its spans however that ends."""
        try:
            await self._hooks.call("on_rollout_start", rollout=rollout)
            async with self._tracer.trace_context(
                rollout_id=rollout.rollout_id,
                attempt_id=rollout.attempt.attempt_id,
                next_sequence_id=rollout.next_sequence_id,
                deliver=self._delivery.add,
            ) as record.trace:
                record_result(await self._run_agent(rollout, hold), record.trace)
        finally:
            await self._hooks.call("on_rollout_end", rollout=rollout, spans=record.spans)

    async def _run_agent(self, rollout: AttemptedRollout, hold: Hold) -> Any:
        await self._hooks.call("on_trace_start", tracer=self._tracer, rollout=rollout)
        try:
            resources = await self._resources.read(rollout) if self._agent.needs_resources else {}
            call = self._agent.prepare(rollout, resources)
            return await execute(call, limit=rollout.config.timeout_seconds, hold=hold)
        finally:
            await self._hooks.call("on_trace_end", tracer=self._tracer, rollout=rollout)

    async def _report(self, rollout: AttemptedRollout, failure: Failure | None, lost_spans: int) -> None:
        """Report the outcome, also when the runner is stopped meanwhile: it would be worked for again."""
        report = asyncio.create_task(self._complete(rollout, failure, lost_spans))
        try:
            await asyncio.shield(report)
        except asyncio.CancelledError:
            await self._report_soon(rollout, report)
            raise

    async def _complete(self, rollout: AttemptedRollout, failure: Failure | None, lost_spans: int) -> None:
        ids = rollout.rollout_id, rollout.attempt.attempt_id
        spans = self._delivery.take(rollout.attempt.attempt_id)
        try:
            await self._store.complete_attempt(*ids, failure=failure, spans=spans, lost_span_count=lost_spans)
        except AttemptLostError as error:
            _log.warning("[%s] The outcome came too late: %s", self._label(rollout), error)
            await self._leave_evidence(rollout, spans)
        except (ValueError, TypeError) as error:
            if not spans:
                raise
            _log.error("[%s] Lost %d span(s), which were refused: %s", self._label(rollout), len(spans), error)
            await self._store.complete_attempt(*ids, failure=failure, lost_span_count=lost_spans + len(spans))

    async def _report_soon(self, rollout: AttemptedRollout, report: Awaitable[None]) -> None:
        """Report, if the store can be told before the program ends."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await report
        except (StoreError, TimeoutError) as refusal:
            _log.warning("[%s] The store will notice by itself: %s", self._label(rollout), refusal)

    async def _abandon(self, rollout: AttemptedRollout, status: AttemptStatus | None) -> None:
        _log.warning("[%s] Abandoned: the attempt is %s.", self._label(rollout), status or "no longer ours")
        spans = self._delivery.take(rollout.attempt.attempt_id)
        # Spans would bring an unresponsive attempt back to life.
        if status in ("timeout", "failed", "cancelled"):
            await self._leave_evidence(rollout, spans)

    async def _leave_evidence(self, rollout: AttemptedRollout, spans: Sequence[Span]) -> None:
        """Send the last spans of an attempt that has ended otherwise; they change nothing."""
        try:
            if spans:
                await self._store.add_many_spans(spans)
        except StoreError as error:
            _log.warning("[%s] Lost %d span(s): %s", self._label(rollout), len(spans), error)

    def _log(
        self, rollout: AttemptedRollout, spans: Sequence[Span], error: BaseException | None, seconds: float
    ) -> None:
        summary = f"Collected {len(spans)} span(s). Final reward: {find_final_reward(spans)}"
        if error is None:
            _log.info("[%s] Completed in %.2fs. %s", self._label(rollout), seconds, summary)
        elif isinstance(error, _STOPPED):
            _log.info("[%s] Stopped after %.2fs. %s", self._label(rollout), seconds, summary)
        elif isinstance(error, AttemptFailed):
            _log.error("[%s] Failed in %.2fs: %s. %s", self._label(rollout), seconds, error, summary)
        else:
            _log.error("[%s] Failed in %.2fs. %s", self._label(rollout), seconds, summary, exc_info=error)

    def _label(self, rollout: AttemptedRollout) -> str:
        return f"{self.name} | Rollout {rollout.rollout_id}"


@dataclass
class _Record:
    """The trace of an attempt, None when it ended before that began."""

    trace: AttemptTrace | None = None

    @property
    def spans(self) -> list[Span]:
        return self.trace.spans if self.trace else []

    @property
    def lost_spans(self) -> int:
        return self.trace.unfinished if self.trace else 0
