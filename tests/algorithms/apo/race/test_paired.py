import pytest
from agentlightning_algorithms.apo.paired import (
    Comparison,
    Verdict,
    cannot_win,
    compare,
    frontier,
    scored_by_all,
    tasks_to_share,
    z_at,
)


@pytest.mark.parametrize(
    ("mean", "error", "blocks", "z", "verdict"),
    [
        (0.10, 0.05, 2, 1.0, "accept"),
        (0.10, 0.05, 1, 1.0, "open"),
        (0.10, 0.05, 2, 2.5, "open"),
        (0.05, 0.05, 2, 1.0, "open"),
        (0.00, 0.05, 9, 1.0, "open"),
        (-0.03, 0.05, 1, 1.0, "open"),
        (-0.05, 0.05, 1, 1.0, "reject"),
    ],
)
def test_a_challenger_is_rejected_early_and_accepted_after_two_blocks(
    mean: float, error: float, blocks: int, z: float, verdict: Verdict
) -> None:
    assert Comparison(12, mean, error).verdict(blocks=blocks, z=z) == verdict


def test_nothing_is_accepted_without_a_pair() -> None:
    assert compare({0: 1.0, 1: None}, {0: None, 1: 0.0}, [0, 1]) == Comparison(0, 0.0, 0.02)
    assert Comparison(0, 0.0, 0.02).verdict(blocks=2, z=0.0) == "open"


def test_a_task_that_either_was_lost_on_counts_for_neither() -> None:
    found = compare({0: 1.0, 1: None, 2: 1.0, 3: 0.0}, {0: 0.0, 1: 0.0, 2: None, 3: 0.0}, range(4))
    assert (found.pairs, found.mean) == (2, 0.5)


def test_equal_differences_are_not_taken_for_certain() -> None:
    assert compare(dict.fromkeys(range(6), 0.6), dict.fromkeys(range(6), 0.5), range(6)).error == 0.02


@pytest.mark.parametrize(
    ("lead", "incumbent_on_the_rest", "expected"),
    [
        (-1.0, [0.5, 0.5], True),
        (-0.9, [0.5, 0.5], False),
        (0.0, [1.0, 1.0], True),
        (-3.0, [1.0, None], False),
    ],
)
def test_a_challenger_that_can_not_get_ahead_any_more_has_lost(
    lead: float, incumbent_on_the_rest: list[float | None], expected: bool
) -> None:
    incumbent = {0: 0.0} | dict(enumerate(incumbent_on_the_rest, 1))
    assert cannot_win({0: lead}, incumbent, [0], [1, 2], perfect=1.0) is expected


@pytest.mark.parametrize(("spent", "expected"), [(0, 1.0), (50, 1.5), (100, 2.0), (300, 2.0)])
def test_more_is_asked_for_the_later_it_is(spent: int, expected: float) -> None:
    assert z_at((1.0, 2.0), spent, 100) == expected


def test_finals_take_the_tasks_that_lack_the_fewest_rollouts() -> None:
    first, second = {0: 1.0, 1: 1.0, 2: 1.0}, {2: 0.0, 3: 0.0}
    assert tasks_to_share([first, second], range(5), 0) == [2]
    assert tasks_to_share([first, second], range(5), 2) == [2, 0, 1]
    assert tasks_to_share([first, second], range(5), 4) == [2, 0, 1, 3]
    assert tasks_to_share([first, second], range(5), 5) == [2, 0, 1, 3, 4]


def test_a_task_that_one_was_lost_on_is_not_shared() -> None:
    assert scored_by_all([{0: 1.0, 1: None, 2: 0.0}, {0: 0.0, 1: 0.0, 2: 0.0}], range(4)) == [0, 2]


def test_the_frontier_counts_the_tasks_that_each_is_best_on() -> None:
    assert frontier([{0: 1.0, 1: 0.0}, {0: 1.0, 1: 0.5, 2: None}, {2: 0.0}], range(4)) == [1, 2, 1]
