"""How often things happen: the last minute is counted, what is older is forgotten."""

from collections import Counter
from typing import Any

import pytest
from agentlightning_server.clock import SECOND
from agentlightning_server.dispatch.rates import Rates


@pytest.fixture
def rates(clock: Any) -> Rates:
    return Rates(clock)


def test_what_happened_within_the_last_minute_is_counted(rates: Rates, clock: Any) -> None:
    for _ in range(3):
        rates.add(Counter(spans=2))
        clock.advance(10)
    assert rates.over_window() == (30 * SECOND, Counter(spans=6))


def test_what_is_older_than_a_minute_is_forgotten(rates: Rates, clock: Any) -> None:
    rates.add(Counter(spans=2))
    clock.advance(62)
    rates.add(Counter(spans=3))
    assert rates.over_window() == (60 * SECOND, Counter(spans=3))


def test_memory_does_not_grow_with_time(rates: Rates, clock: Any) -> None:
    for _ in range(1000):
        rates.add(Counter(spans=1))
        clock.advance(1)
    assert len(rates._seconds) == 61
