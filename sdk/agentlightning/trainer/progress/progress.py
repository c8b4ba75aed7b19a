"""How far a run is, as a person at a terminal or a reader of a log is told. Changes nothing of the run."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TextIO

from agentlightning.adapter import Usage
from agentlightning.store import LightningStoreClient
from agentlightning.trainer.costs.spending import Prices, SpendingReader, cost_of
from agentlightning.trainer.progress.tally import Tally
from agentlightning.trainer.progress.terminal import Terminal
from agentlightning.trainer.report import money
from agentlightning.types import Rollout
from agentlightning.types.rollout import TERMINAL_STATUSES

if TYPE_CHECKING:
    from rich.console import RenderableType

_log = logging.getLogger(__name__)

_STEPS: Final = 10
_LEAST_STEP: Final = 10
_NEWS_SECONDS: Final = 10.0


class Progress:
    """Tells how far a run is: live lines on a terminal, else a line at each phase and about every tenth of the way.

    An algorithm tells it the phase and how many rollouts it expects, by calling it; the rest it sees in the store.

    Args:
        prices: What a million tokens cost, by model.
        out: Where lines are printed when there is no terminal. None: stdout.
    """

    def __init__(self, prices: Prices | None = None, out: TextIO | None = None) -> None:
        self._prices = prices or {}
        self._out = out
        self._terminal: Terminal | None = None
        self._tally = Tally()
        self._spending: SpendingReader | None = None
        self._noted = asyncio.Event()
        self._began = time.monotonic()
        self._phase = ""
        self._told: tuple[int, int] | None = None
        self._reported = 0

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Note that so many rollouts are done."""
        is_new = phase != self._phase
        self._phase, self._told = phase, (done, total)
        self._show(is_new)

    @contextlib.contextmanager
    def shown(self, *, is_live: bool = True) -> Iterator[None]:
        """Keep the terminal, if there is one, for the live lines while the block runs.

        Processes may be forked until `follow`.

        Args:
            is_live: False: lines are printed on a terminal, too.
        """
        if is_live and self._out is None:
            self._terminal = Terminal.taken(self._render)
        try:
            yield
        finally:
            terminal, self._terminal = self._terminal, None
            if terminal is not None:
                terminal.close()

    async def follow(self, store: LightningStoreClient) -> None:
        """See what becomes of the run that the store is bound to, until cancelled."""
        self._spending = SpendingReader(store)
        if self._terminal is not None:
            self._terminal.start()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._watch(store, self._spending))
                both.create_task(self._spending.run())
        except* Exception as errors:  # the run goes on, whatever keeps it from being shown
            _log.warning("What is shown of the run's progress ends here: %s", errors.exceptions[0])

    async def spent(self, store: LightningStoreClient, following: "asyncio.Task[None]") -> dict[str, Usage] | None:
        """What the calls of the models of the run's ended rollouts came to. None: that could not be read."""
        catching_up = asyncio.create_task(self._catch_up(store))
        try:
            await asyncio.wait({catching_up, following}, return_when=asyncio.FIRST_COMPLETED)
            has_caught_up = catching_up.done() and catching_up.result()
        finally:
            catching_up.cancel()
        return self._spending.usage if self._spending and has_caught_up else None

    @property
    def by_rollout(self) -> dict[str, dict[str, Usage]]:
        """What the calls of the models of each rollout that was read came to."""
        return self._spending.by_rollout if self._spending else {}

    @property
    def failed(self) -> int:
        """How many rollouts have failed."""
        return self._tally.failed

    async def _watch(self, store: LightningStoreClient, spending: SpendingReader) -> None:
        async with contextlib.aclosing(store.watch()) as changes:
            async for change in changes:
                if not isinstance(change.object, Rollout):
                    continue
                if self._tally.note(change.object):
                    spending.add(change.object.rollout_id)
                self._noted.set()
                self._show()

    async def _catch_up(self, store: LightningStoreClient) -> bool:
        """Wait until all rollouts that have ended were heard of and read; whether they were."""
        ended = await store.query_rollouts(status_in=sorted(TERMINAL_STATUSES), limit=1)
        try:
            async with asyncio.timeout(_NEWS_SECONDS):
                while self._tally.ends < ended.total:
                    self._noted.clear()
                    await self._noted.wait()
        except TimeoutError:
            return False
        if self._spending is not None:
            await self._spending.is_done()
        return True

    def _show(self, is_new_phase: bool = False) -> None:
        if self._terminal is not None:
            self._terminal.changed()
            return
        done, total = self._standing()
        step = max(1 if self._told else _LEAST_STEP, total // _STEPS)
        is_last = self._told is not None and done == total
        if is_new_phase or (done != self._reported and is_last) or done - self._reported >= step:
            self._reported = done
            line = f"{done:4d}/{total} rollouts  {self._phase}"
            print("  ".join([line, *self._details()]).rstrip(), file=self._out, flush=True)

    def _standing(self) -> tuple[int, int]:
        """How many rollouts are done, and how many there will be; without an algorithm that says so, how many are."""
        return self._told or (self._tally.ended, self._tally.known)

    def _details(self) -> list[str]:
        tally, usage = self._tally, self._spending.usage if self._spending else {}
        tokens = sum(used.input_tokens + used.output_tokens for used in usage.values())
        means = tally.mean_rewards
        rewards = ", ".join(f"{mode} {mean:.2f}".strip() for mode, mean in means.items())
        left = self._seconds_left()
        cost = cost_of(usage, self._prices)
        details = {
            f"{tally.running} running": tally.running,
            f"{tally.failed} failed": tally.failed,
            f"{tally.rate or 0:.1f}/s": tally.rate,
            f"mean reward {rewards}": means,
            f"{tokens:,} tokens": tokens,
            f"cost {'unknown' if cost is None else money(cost)}": tokens and self._prices,
            f"{_duration(left or 0)} left": left,
        }
        return [detail for detail, is_known in details.items() if is_known]

    def _seconds_left(self) -> float | None:
        done, total = self._standing()
        rate = self._tally.rate
        return (total - done) / rate if self._told and rate else None

    def _render(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        done, total = self._standing()
        line = Table.grid(padding=(0, 2))
        count = f"{done}/{total} rollouts" if total else "starting"
        bar = ProgressBar(total=max(total, 1), completed=done, width=30)
        line.add_row(bar, count, self._phase, _duration(time.monotonic() - self._began))
        return Group(line, Text("  ".join(self._details()), no_wrap=True, overflow="ellipsis"))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
