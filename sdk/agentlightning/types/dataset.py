"""What a dataset is here, a page of a list, and the difference between "leave it" and "none"."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar, overload

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Dataset(Protocol[T_co]):
    """Anything with a length and items by number: a list will do.

    Example:
        >>> dataset: Dataset[dict] = [{"question": "why?"}, {"question": "how?"}]
        >>> len(dataset)
        2
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> T_co: ...


def tasks_of(dataset: Dataset[T] | None, most: int | None = None) -> list[T]:
    """The items of a dataset, or the first `most` of them; none of no dataset.

    Example:
        >>> tasks_of(range(10), 3)
        [0, 1, 2]
        >>> tasks_of(None)
        []
    """
    return [] if dataset is None else [dataset[index] for index in range(len(dataset))[:most]]


class PaginatedResult(Sequence[T]):
    """A page of a list: a sequence of its items that also knows how many match in all.

    Attributes:
        items: The items of this page.
        limit: The limit asked for; -1 for none.
        offset: The offset asked for.
        total: How many match in all.
        revision: The store's revision when a list of rollouts was read: where a watch may begin. 0 of other lists.

    Example:
        >>> page = PaginatedResult(["a", "b"], limit=2, offset=0, total=5)
        >>> list(page), len(page), page.total
        (['a', 'b'], 2, 5)
    """

    def __init__(self, items: Sequence[T], *, limit: int, offset: int, total: int, revision: int = 0) -> None:
        self.items = list(items)
        self.limit = limit
        self.offset = offset
        self.total = total
        self.revision = revision

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self.items[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __eq__(self, other: object) -> bool:
        return self.items == (other.items if isinstance(other, PaginatedResult) else other)

    def __repr__(self) -> str:
        end = "" if self.limit < 0 else self.offset + self.limit
        shown = ", ".join([*map(repr, self.items[:1]), *["..."] * (len(self.items) > 1)])
        return f"<PaginatedResult ({self.offset}:{end} of {self.total}) [{shown}]>"


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> Any:
        return "UNSET"


UNSET: Final = Unset()
"""Leave it as it is, where None means to clear it.

Example:
    >>> rollout = asyncio.run(store.enqueue_rollout("Why?", mode="train"))
    >>> asyncio.run(store.update_rollout(rollout.rollout_id, mode=UNSET, metadata={"by": "hand"})).mode
    'train'
    >>> print(asyncio.run(store.update_rollout(rollout.rollout_id, mode=None)).mode)
    None
"""
