"""Pages, and the difference between "leave it" and "none"."""

import copy
import pickle
from collections.abc import Sequence

import pytest
from agentlightning.store.base import UNSET as UNSET_OF_THE_STORE
from agentlightning.types import UNSET, PaginatedResult


def test_a_page_is_a_sequence_of_its_items() -> None:
    page = PaginatedResult(items=["a", "b", "c"], limit=3, offset=1, total=9)
    assert isinstance(page, Sequence)
    assert (len(page), page[0], page[1:], list(page)) == (3, "a", ["b", "c"], ["a", "b", "c"])
    assert page == ["a", "b", "c"]
    assert not PaginatedResult(items=[], limit=-1, offset=0, total=0)


@pytest.mark.parametrize(
    ("items", "limit", "shown"),
    [
        (["a", "b"], 2, "<PaginatedResult (1:3 of 5) ['a', ...]>"),
        (["a", "b"], -1, "<PaginatedResult (1: of 5) ['a', ...]>"),
        (["a"], 1, "<PaginatedResult (1:2 of 5) ['a']>"),
        ([], 0, "<PaginatedResult (1:1 of 5) []>"),
    ],
)
def test_a_page_shows_where_it_lies_and_how_it_begins(items: list[str], limit: int, shown: str) -> None:
    assert repr(PaginatedResult(items=items, limit=limit, offset=1, total=5)) == shown


def test_there_is_one_unset_wherever_it_comes_from() -> None:
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET
    assert copy.deepcopy(UNSET) is UNSET
    assert UNSET_OF_THE_STORE is UNSET
