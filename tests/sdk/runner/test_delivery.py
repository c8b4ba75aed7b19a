import threading
from collections.abc import Iterator, Sequence

import pytest
from agentlightning.errors import StoreUnavailableError
from agentlightning.runner.delivery import BATCH_SPANS, SpanDelivery
from agentlightning.types import Span


class Recorder:
    """Takes spans, or refuses them."""

    def __init__(self) -> None:
        self.batches: list[list[Span]] = []
        self.refuses = False
        self._called = threading.Semaphore(0)

    async def add_many_spans(self, spans: Sequence[Span]) -> list[Span]:
        self.batches.append(list(spans))
        self._called.release()
        if self.refuses:
            raise StoreUnavailableError("away")
        return list(spans)

    def wait(self) -> None:
        assert self._called.acquire(timeout=5)


def some_spans(count: int, attempt: str = "at-1") -> list[Span]:
    return [Span.from_attributes(attributes={}, attempt_id=attempt, sequence_id=number) for number in range(count)]


@pytest.fixture
def store() -> Recorder:
    return Recorder()


@pytest.fixture
def delivery(store: Recorder) -> Iterator[SpanDelivery]:
    delivery = SpanDelivery(store)  # type: ignore[arg-type]
    yield delivery
    delivery.close()


def send(delivery: SpanDelivery, spans: list[Span]) -> list[Span]:
    for span in spans:
        delivery.add(span)
    return spans


def test_spans_arrive_in_order_and_together_while_the_attempt_runs(store: Recorder, delivery: SpanDelivery) -> None:
    spans = send(delivery, some_spans(5))
    store.wait()
    assert store.batches == [spans]


def test_a_full_batch_is_sent_at_once(store: Recorder, monkeypatch) -> None:
    monkeypatch.setattr("agentlightning.runner.delivery.BATCH_SECONDS", 60)
    delivery = SpanDelivery(store)  # type: ignore[arg-type]
    spans = send(delivery, some_spans(BATCH_SPANS))
    store.wait()
    delivery.close()
    assert store.batches == [spans]


def test_spans_of_attempts_that_run_at_once_share_a_call(store: Recorder, delivery: SpanDelivery) -> None:
    spans = send(delivery, some_spans(1, "at-1") + some_spans(1, "at-2"))
    store.wait()
    assert store.batches == [spans]


def test_what_is_taken_before_it_was_sent_is_not_sent(store: Recorder, delivery: SpanDelivery) -> None:
    first = send(delivery, some_spans(3, "at-1"))
    second = send(delivery, some_spans(1, "at-2"))
    assert delivery.take("at-1") == first
    store.wait()
    assert store.batches == [second]


def test_what_was_acknowledged_is_not_handed_over(store: Recorder, delivery: SpanDelivery) -> None:
    send(delivery, some_spans(1))
    store.wait()
    later = send(delivery, some_spans(1))
    store.wait()
    rest = send(delivery, some_spans(2))
    assert [span for span in delivery.take("at-1") if span not in later] == rest


def test_what_was_refused_is_handed_over_with_the_rest(store: Recorder, delivery: SpanDelivery, caplog) -> None:
    store.refuses = True
    refused = send(delivery, some_spans(2))
    store.wait()
    rest = send(delivery, some_spans(1))
    store.wait()
    assert delivery.take("at-1") == refused + rest
    assert "2 span(s) are kept until their attempts end: away" in caplog.text


def test_what_was_taken_is_taken_once(delivery: SpanDelivery) -> None:
    send(delivery, some_spans(1))
    delivery.take("at-1")
    assert delivery.take("at-1") == []
