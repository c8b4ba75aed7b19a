"""The way of spans to the store while their attempts run. Knows the store, and neither agents nor tracers."""

import asyncio
import logging
import threading
from typing import Final

from agentlightning.store.base import LightningStore
from agentlightning.types import Span

_log = logging.getLogger(__name__)

BATCH_SPANS: Final = 100
BATCH_SECONDS: Final = 0.1


class SpanDelivery:
    """Sends spans in batches, from a thread of its own: an agent that blocks its loop holds back nothing.

    What the store has not acknowledged is kept until the attempt ends, and given to whoever ends it. A span may so be
    sent twice; the store takes it once.
    """

    def __init__(self, store: LightningStore) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._waiting: list[Span] = []
        self._unacknowledged: dict[str, dict[str, Span]] = {}
        self._closed = False
        threading.Thread(target=self._run, name="agentlightning-delivery", daemon=True).start()

    def add(self, span: Span) -> None:
        """Send a span soon. From any thread."""
        with self._changed:
            self._waiting.append(span)
            self._unacknowledged.setdefault(span.attempt_id, {})[span.span_id] = span
            if len(self._waiting) in (1, BATCH_SPANS):
                self._changed.notify()

    def take(self, attempt_id: str) -> list[Span]:
        """Send no more of an attempt's spans, and hand over those that the store has not acknowledged."""
        with self._changed:
            self._waiting = [span for span in self._waiting if span.attempt_id != attempt_id]
            return list(self._unacknowledged.pop(attempt_id, {}).values())

    def close(self) -> None:
        """Send nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        with asyncio.Runner() as loop:
            while batch := self._next_batch():
                try:
                    loop.run(self._store.add_many_spans(batch))
                except Exception as error:
                    _log.warning("%d span(s) are kept until their attempts end: %s", len(batch), error)
                else:
                    self._acknowledge(batch)

    def _next_batch(self) -> list[Span]:
        """The next spans to send, none when closed. Waits a moment after the first, for others to join it."""
        with self._changed:
            batch: list[Span] = []
            while not batch:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._changed.wait_for(lambda: len(self._waiting) >= BATCH_SPANS or self._closed, BATCH_SECONDS)
                if self._closed:
                    return []
                batch, self._waiting = self._waiting, []
            return batch

    def _acknowledge(self, batch: list[Span]) -> None:
        with self._changed:
            for span in batch:
                self._unacknowledged.get(span.attempt_id, {}).pop(span.span_id, None)
