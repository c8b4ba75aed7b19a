import time

import pytest
from agentlightning.testing import FakeClock


def test_it_begins_now() -> None:
    before = time.time_ns() // 1000
    assert before <= FakeClock()() <= time.time_ns() // 1000


def test_it_stands_still_until_it_is_moved() -> None:
    clock = FakeClock(start=10)
    assert (clock(), clock()) == (10_000_000, 10_000_000)
    clock.advance(0.5)
    assert clock() == 10_500_000


def test_it_can_be_set_back() -> None:
    clock = FakeClock(start=10)
    clock.advance(-1)
    assert clock() == 9_000_000


def test_a_follower_is_told_at_once_and_whenever_it_is_moved_until_it_leaves() -> None:
    clock, told = FakeClock(start=0), list[int]()
    with clock.followed_by(told.append):
        clock.advance(1)
    clock.advance(1)
    assert told == [0, 1_000_000]


def test_a_follower_that_fails_at_first_is_not_told_again() -> None:
    clock = FakeClock(start=0)

    def fail(now: int) -> None:
        raise ValueError(now)

    with pytest.raises(ValueError), clock.followed_by(fail):
        pass
    clock.advance(1)
