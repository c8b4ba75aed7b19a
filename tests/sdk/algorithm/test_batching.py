"""How a dataset is gone through in batches."""

from collections import Counter
from itertools import islice

import pytest
from agentlightning.algorithm import batch_iter_over_dataset

TASKS = "abcdefghijk"


@pytest.mark.parametrize("size", [1, 3, 4, 10, 11, 50])
def test_an_epoch_has_every_task_once(size: int) -> None:
    batches = list(batch_iter_over_dataset(TASKS, size, epochs=1))
    assert sorted(task for batch in batches for task in batch) == list(TASKS)
    assert {len(batch) for batch in batches[:-1]} <= {size}


def test_each_epoch_has_an_order_of_its_own() -> None:
    one, other = batch_iter_over_dataset(TASKS, len(TASKS), epochs=2)
    assert one != other
    assert sorted(one) == sorted(other)


def test_without_epochs_it_goes_on_for_ever_in_batches_of_one_size_without_a_task_twice() -> None:
    batches = list(islice(batch_iter_over_dataset(TASKS, 4), 110))
    assert {len(batch) for batch in batches} == {4}
    assert all(len(set(batch)) == 4 for batch in batches)


def test_without_epochs_every_task_comes_equally_often() -> None:
    batches = islice(batch_iter_over_dataset(TASKS, 4), 11)
    assert set(Counter(task for batch in batches for task in batch).values()) == {4}


def test_a_batch_that_is_larger_than_the_dataset_is_all_of_it() -> None:
    batches = islice(batch_iter_over_dataset("abc", 10), 3)
    assert [sorted(batch) for batch in batches] == [["a", "b", "c"]] * 3


def test_the_same_seed_draws_the_same_batches_and_another_seed_others() -> None:
    def drawn(**seed: int) -> list[list[str]]:
        return list(islice(batch_iter_over_dataset(TASKS, 4, **seed), 9))

    assert drawn(seed=1) == drawn(seed=1)
    assert drawn(seed=1) != drawn(seed=2)
    assert drawn() == drawn()


def test_the_order_is_that_of_the_dataset_on_request() -> None:
    batches = batch_iter_over_dataset(TASKS, 4, epochs=1, shuffle=False)
    assert list(map("".join, batches)) == ["abcd", "efgh", "ijk"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((TASKS, 0), "batch_size"), (("", 1), r"len\(dataset\)"), ((TASKS, 1, 0), "epochs")],
)
def test_what_cannot_be_gone_through_is_refused_by_name(arguments, name: str) -> None:
    dataset, size, *epochs = arguments
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        batch_iter_over_dataset(dataset, size, epochs=epochs[0] if epochs else None)
