"""How filters and sorting are said on the wire. Knows no list."""

from collections.abc import Sequence
from typing import Any

from agentlightning.store.base import FilterLogic, SortOrder
from agentlightning.store.convert import invalid
from agentlightning.v1.store_service_pb2 import FilterLogic as ProtoFilterLogic

_FILTER_LOGIC = {"and": ProtoFilterLogic.FILTER_LOGIC_AND, "or": ProtoFilterLogic.FILTER_LOGIC_OR}
_DIRECTIONS = {"asc": "", "desc": " desc"}


def logic(filter_logic: FilterLogic) -> ProtoFilterLogic.ValueType:
    """How filters combine."""
    return _FILTER_LOGIC[filter_logic]


def order(sort_by: str, sort_order: SortOrder) -> str:
    """By what a list is sorted, and which comes first."""
    return sort_by + _DIRECTIONS[sort_order]


def exactly(field: str, value: str | None) -> str:
    """A filter for one text; the wire's empty text is no filter.

    Raises:
        InvalidRequestError: The text is empty, which nothing is.
    """
    if value == "":
        raise invalid(field, value, "a text that is not empty, or None for any")
    return value or ""


def matches_nothing(filter_logic: FilterLogic, lists: Sequence[Sequence[Any] | None], contains: str | None) -> bool:
    """Whether an empty list among the filters leaves nothing; the wire's empty list is no filter."""
    has_empty = any(values is not None and not values for values in lists)
    return has_empty and (filter_logic == "and" or not (any(lists) or contains))
