"""Batches of tasks, drawn the same way each time. Knows no store and no algorithm."""

from collections.abc import Iterable, Iterator
from itertools import islice
from random import Random
from typing import TypeVar

from agentlightning.types import Dataset

T = TypeVar("T")


def batch_iter_over_dataset(
    dataset: Dataset[T], batch_size: int, *, seed: int = 0, epochs: int | None = None, shuffle: bool = True
) -> Iterator[list[T]]:
    """Go through a dataset in batches, in a new order each time around; the same seed draws the same batches.

    Args:
        dataset: The tasks.
        batch_size: How many tasks make a batch; all of them where there are fewer.
        seed: Of the orders.
        epochs: How many times to go through the dataset; the last batch of each time is what is left of it. None:
            for ever, in batches of one size: what is left is put before the next time's, and no batch has a task twice.
        shuffle: Whether to change the order. False: that of the dataset, each time.

    Raises:
        ValueError: When the dataset is empty, or a number is less than 1.

    Example:
        >>> list(batch_iter_over_dataset("abcde", 2, epochs=1, shuffle=False))
        [['a', 'b'], ['c', 'd'], ['e']]
        >>> batches = batch_iter_over_dataset("abcde", 2, seed=7)
        >>> again = batch_iter_over_dataset("abcde", 2, seed=7)
        >>> [next(batches) for _ in range(9)] == [next(again) for _ in range(9)]
        True
    """
    numbers = {"len(dataset)": len(dataset), "batch_size": batch_size, "epochs": 1 if epochs is None else epochs}
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value!r}")
    orders = _orders(len(dataset), Random(seed), shuffle)
    batches = _cut(islice(orders, epochs), min(batch_size, len(dataset)), whole=epochs is None)
    return ([dataset[index] for index in batch] for batch in batches)


def _orders(length: int, rng: Random, shuffle: bool) -> Iterator[list[int]]:
    while True:
        yield rng.sample(range(length), length) if shuffle else list(range(length))


def _cut(orders: Iterable[list[int]], size: int, *, whole: bool) -> Iterator[list[int]]:
    """Batches of these orders; if all are to be whole, what is left of one order is put before the next."""
    left: list[int] = []
    for order in orders:
        waiting = left + sorted(order, key=left.__contains__)  # so that no batch has both of a kind
        end = len(waiting) - len(waiting) % size if whole else len(waiting)
        yield from (waiting[start : start + size] for start in range(0, end, size))
        left = waiting[end:]
