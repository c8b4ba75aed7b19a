"""What a run spends on models: tokens read from the spans of its rollouts, and their price. Shows nothing."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from agentlightning.adapter import Usage, usage_by_model
from agentlightning.adapter.usage import summed
from agentlightning.store import LightningStoreClient

Prices = Mapping[str, tuple[float, float]]
"""What a million tokens cost, those sent and those that come back, by model."""

_BATCH: Final = 16
_MILLION: Final = 1_000_000


def cost_of(usage: Mapping[str, Usage], prices: Prices) -> float | None:
    """What calls of models cost. None: unknown, as a model has no price or a call does not say what it used."""
    if any(model not in prices or used.unmeasured_calls for model, used in usage.items()):
        return None
    return sum(
        (used.input_tokens * prices[model][0] + used.output_tokens * prices[model][1]) / _MILLION
        for model, used in usage.items()
    )


def usage_of_summary(summary: Mapping[str, Any]) -> dict[str, Usage]:
    """What an algorithm says that its own calls came to: `optimizer_tokens` of its summary, `Usage` by model."""
    told = summary.get("optimizer_tokens") or {}
    return {
        model: Usage(**{name: int(used.get(name, 0)) for name in Usage.__dataclass_fields__})
        for model, used in told.items()
    }


class SpendingReader:
    """Reads the spans of rollouts in the background, a few rollouts at a time.

    Attributes:
        usage: What their calls came to so far.
        by_rollout: The same for each of them.
    """

    def __init__(self, store: LightningStoreClient) -> None:
        self.usage: dict[str, Usage] = {}
        self.by_rollout: dict[str, dict[str, Usage]] = {}
        self._store = store
        self._unread: asyncio.Queue[str] = asyncio.Queue()

    def add(self, rollout_id: str) -> None:
        """Read the spans of a rollout that has ended when there is time; all its attempts count."""
        self._unread.put_nowait(rollout_id)

    async def run(self) -> None:
        """Read for ever.

        Raises:
            StoreError: When the store refuses or cannot be reached.
        """
        while True:
            rollout_ids = [await self._unread.get()]
            while len(rollout_ids) < _BATCH and not self._unread.empty():
                rollout_ids.append(self._unread.get_nowait())
            read = await asyncio.gather(*map(self._store.query_spans, rollout_ids))
            used = [usage_by_model(spans) for spans in read]
            self.by_rollout |= zip(rollout_ids, used, strict=True)
            self.usage = summed([self.usage, *used])
            for _ in rollout_ids:
                self._unread.task_done()

    async def is_done(self) -> None:
        """Wait until all is read."""
        await self._unread.join()
