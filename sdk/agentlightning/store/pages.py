"""Reading a list page by page: the next page is on its way while the last is translated. Knows no list."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from agentlightning.store.convert import invalid

T = TypeVar("T")

PAGE = 1000
"""Items."""


async def read(
    call: Callable[[Any], Coroutine[Any, Any, Any]],
    request: Any,
    field: str,
    model: Callable[[Any], T],
    limit: int = -1,
) -> tuple[list[T], Any]:
    """All the items of a list, or the first `limit`.

    Args:
        call: Asks the store.
        request: What to ask it; its paging is set here.
        field: Which field of the answers has the items.
        model: What becomes of an item.
        limit: The most there may be; -1 for all.

    Returns:
        The items, and the first page's answer.

    Raises:
        InvalidRequestError: The limit is below -1.
    """
    if limit < -1:
        raise invalid("limit", limit, "-1 for all of them, or how many")
    items: list[T] = []
    request.page_size = PAGE if limit < 0 else max(1, min(PAGE, limit))
    answer = first = await call(request)
    while True:
        left = limit - len(items) - len(getattr(answer, field))
        if not answer.next_page_token or (limit >= 0 and left <= 0):
            items += _translated(getattr(answer, field), model)
            return items if limit < 0 else items[:limit], first
        request.page_size = PAGE if limit < 0 else min(PAGE, left)
        request.page_token = answer.next_page_token
        if "skip" in request.DESCRIPTOR.fields_by_name:
            request.skip, request.count_total = 0, False
        coming = asyncio.create_task(call(request))
        try:
            await asyncio.sleep(0)  # and it is on its way
            items += _translated(getattr(answer, field), model)
            answer = await coming
        finally:
            coming.cancel()


async def each(
    call: Callable[[Any], Coroutine[Any, Any, Any]], request: Any, field: str, model: Callable[[Any], T]
) -> AsyncGenerator[T, None]:
    """The items of a list one by one, however many: no more than a page of them is held.

    Args:
        call: Asks the store.
        request: What to ask it; its paging is set here.
        field: Which field of the answers has the items.
        model: What becomes of an item.
    """
    request.page_size = PAGE
    while True:
        answer = await call(request)
        for message in getattr(answer, field):
            yield model(message)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def _translated(messages: Any, model: Callable[[Any], T]) -> list[T]:
    with _no_garbage():
        return [model(message) for message in messages]


@contextmanager
def _no_garbage() -> Iterator[None]:
    """While so much is made that stays, looking for garbage in it finds none and takes longer than making it.

    Afterwards all of it counts as old, so that it is not looked at soon, and then again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # else the application has set things aside: that is not ours to undo
                gc.freeze()
                gc.unfreeze()
            gc.enable()
