"""Composes a list out of fragments and bound parameters, and reads it a page at a time. Knows no table.

Pages are found by key: a token holds the last row's sort key, so a page costs what it returns, however deep it lies,
and what is inserted between two pages neither repeats nor hides what was there.
"""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from typing import Any, Generic, NamedTuple, TypeVar

from agentlightning.v1.error_reason_pb2 import ErrorReason
from google.protobuf.message import Message

from agentlightning_server.errors import FieldInvalidError, StoreError
from agentlightning_server.storage.fitting import MAX_BYTES
from agentlightning_server.storage.transaction import Reading, Row, columns_of

DEFAULT_PAGE = 100
_SEAL_BYTES = 8

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Listing(Generic[M]):
    """What there is to list.

    Attributes:
        table: Where the rows are.
        orders: What one sorts by: for each field an expression that is never null. The first is the default.
        tie: The column that orders equals; unique, and growing with every insertion where there is such a one.
        message: Makes the message of a row.
        columns: What that needs.
        source: The view that has these, where the table does not.
    """

    table: str
    orders: Mapping[str, str]
    tie: str
    message: Callable[[Row], M]
    columns: str = "*"
    source: str = ""


class Page(NamedTuple, Generic[M]):
    """A part of a list.

    Attributes:
        items: What is on it.
        next_token: Where the next one begins; empty when this is the last.
        total: How many match in all; 0 when nobody asked.
    """

    items: list[M]
    next_token: str
    total: int


class _Fragment(NamedTuple):
    text: str
    values: tuple[Any, ...] = ()
    indexed: bool = False


class Query(Generic[M]):
    """A list being composed.

    SQLite knows nothing of how many rows an index leaves and guesses badly between two, so the caller decides: an
    `indexed` condition is one that rows are found by, in the default order if sorted so. The narrowest is added first;
    the first is used and the others only filter. Without one, the list is walked in its order.

    Attributes:
        field: What it is sorted by.

    Raises:
        FieldInvalidError: The list cannot be sorted so.
    """

    def __init__(self, listing: Listing[M], order_by: str = "", *, any_of: bool = False) -> None:
        self._listing = listing
        self.field, self._descending = _order(listing.orders, order_by)
        self._any_of = any_of
        self._required: list[_Fragment] = []
        self._optional: list[_Fragment] = []
        self._each: list[_Fragment] = []
        self._bounds: dict[str, _Fragment] = {}

    def require(self, condition: str, *values: Any, indexed: bool = False) -> None:
        """List only what this holds for."""
        self._required.append(_Fragment(condition, values, indexed and not self._found))

    def require_between(self, least: float, most: float) -> None:
        """List only from one to another value of what it is sorted by."""
        order = self._listing.orders[self.field]
        self._bounds = {">": _Fragment(f"{order} >= ?", (least,)), "<": _Fragment(f"{order} <= ?", (most,))}

    def filter(self, condition: str, *values: Any, indexed: bool = False) -> None:
        """List only what this holds for, or what one of several such holds for."""
        if self._any_of:
            self._optional.append(_Fragment(condition, values))
        else:
            self.require(condition, *values, indexed=indexed)

    def filter_in(self, column: str, values: Iterable[str] | Iterable[int], indexed: bool = False) -> None:
        """Filter by a set of values."""
        self.filter(f"{column} IN (SELECT value FROM json_each(?))", json.dumps(sorted(values)), indexed=indexed)

    def filter_containing(self, column: str, text: str) -> None:
        """Filter by a part of a text, to the letter."""
        self.filter(f"instr({column}, ?) > 0", text)

    def filter_each(self, column: str, values: Iterable[str]) -> None:
        """Filter by a set of values of an indexed column: the rows of each are read in order, and merged."""
        if self._any_of or self._found:
            self.filter_in(column, values)
        else:
            self._each = [_Fragment(f"{column} = ?", (value,), indexed=True) for value in sorted(values)]

    def page(self, tx: Reading, size: int, token: str, skip: int = 0, count_total: bool = False) -> Page[M]:
        """One page, cut short to one item at least where it would be too large for a message.

        Raises:
            StoreError: The token was not given by this list.
        """
        total = self._count(tx) if count_total else 0
        size = size or DEFAULT_PAGE
        text, values, _ = self._rows(self._key(token) if token else None)
        items: list[M] = []
        bytes_in_all, key = 0, ()
        with closing(tx.connection.execute(f"{text} LIMIT ? OFFSET ?", (*values, size + 1, skip))) as rows:
            columns = columns_of(rows)
            for row in rows:
                item = self._listing.message(dict(zip(columns, row, strict=True)))
                bytes_in_all += item.ByteSize()
                if items and (len(items) == size or bytes_in_all > MAX_BYTES):
                    return Page(items, self._token(key), total)
                items.append(item)
                key = row[-2:]
        return Page(items, "", total)

    @property
    def _found(self) -> bool:
        return bool(self._each) or any(condition.indexed for condition in self._required)

    def _rows(self, key: Sequence[Any] | None) -> _Fragment:
        """The rows after a key: for each of the values, those of equal rank, then those beyond."""
        listing, direction = self._listing, "DESC" if self._descending else "ASC"
        columns = f"{listing.columns}, {listing.orders[self.field]} AS key, {listing.tie} AS tie"
        source = listing.source or listing.table
        each = [[condition] for condition in self._each] or [[]]
        ranges = self._beyond(key) if key else [list(self._bounds.values())]
        by_order = not self._found or self.field == next(iter(listing.orders))
        selects = [
            _select(columns, source, [*one, *self._conditions(), *(part._replace(indexed=by_order) for part in range_)])
            for one, range_ in product(each, ranges)
        ]
        text = f"{' UNION ALL '.join(select.text for select in selects)} ORDER BY key {direction}, tie {direction}"
        return _Fragment(text, _values(selects))

    def _beyond(self, key: Sequence[Any]) -> list[list[_Fragment]]:
        """What comes after a key. `(a, b) > (?, ?)` would say it, but SQLite would use the index for `a` alone."""
        order, tie = self._listing.orders[self.field], self._listing.tie
        sign, other = ("<", ">") if self._descending else (">", "<")
        after = [_Fragment(f"{order} {sign} ?", (key[0],))]
        if other in self._bounds:
            after.append(self._bounds[other])
        equal = [_Fragment(f"{order} = ?", (key[0],)), _Fragment(f"{tie} {sign} ?", (key[1],))]
        return [after] if order == tie else [equal, after]

    def _count(self, tx: Reading) -> int:
        each = [_any_of(self._each)] if self._each else []
        select = _select("count(*)", self._listing.table, [*each, *self._conditions(), *self._bounds.values()])
        return int(tx.connection.execute(select.text, select.values).fetchone()[0])

    def _conditions(self) -> list[_Fragment]:
        return [*self._required, _any_of(self._optional)] if self._optional else self._required

    def _token(self, key: Sequence[Any]) -> str:
        text = json.dumps(key).encode()
        return base64.urlsafe_b64encode(self._seal(text) + text).decode()

    def _key(self, token: str) -> list[Any]:
        try:
            decoded = base64.urlsafe_b64decode(token)
        except ValueError:
            decoded = b""
        seal, text = decoded[:_SEAL_BYTES], decoded[_SEAL_BYTES:]
        if seal != self._seal(text):
            raise StoreError(
                ErrorReason.ERROR_REASON_PAGE_TOKEN_INVALID,
                f"page_token {token[:50]!r} was not given by this list, with this order and these filters: "
                "send it with the request that it answered, or start again without one",
                field="page_token",
            )
        key: list[Any] = json.loads(text)
        return key

    def _seal(self, text: bytes) -> bytes:
        """What tells a key in this list from one in another, or in another order, or with other filters."""
        list_ = (self._listing.table, self.field, self._descending, self._each, self._conditions(), self._bounds)
        return blake2b(repr(list_).encode() + text, digest_size=_SEAL_BYTES).digest()


def _order(orders: Mapping[str, str], order_by: str) -> tuple[str, bool]:
    field, _, direction = (order_by or next(iter(orders))).partition(" ")
    if field not in orders or direction not in ("", "asc", "desc"):
        raise FieldInvalidError("order_by", order_by, f"one of {', '.join(orders)}, then nothing or ' desc'")
    return field, direction == "desc"


def _select(columns: str, source: str, conditions: Sequence[_Fragment]) -> _Fragment:
    # SQLite looks for no index for what has a plus before it.
    where = " AND ".join(condition.text if condition.indexed else f"+{condition.text}" for condition in conditions)
    return _Fragment(f"SELECT {columns} FROM {source} WHERE {where or 'TRUE'}", _values(conditions))


def _any_of(conditions: Sequence[_Fragment]) -> _Fragment:
    text = f"({' OR '.join(condition.text for condition in conditions)})"
    return _Fragment(text, _values(conditions), indexed=all(condition.indexed for condition in conditions))


def _values(conditions: Iterable[_Fragment]) -> tuple[Any, ...]:
    return tuple(value for condition in conditions for value in condition.values)
