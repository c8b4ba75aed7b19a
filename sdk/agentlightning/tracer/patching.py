"""Replacing methods of other people's classes, and putting them back. Knows none of them."""

import functools
from collections.abc import Callable
from typing import Any, Final

_WRAP: Final = "_agentlightning_wrap"


def patch(owner: object, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[[], None]:
    """Replace a method, or a module's function, by what `wrap` makes of it.

    Returns:
        What puts the method back, unless somebody else has replaced it since.
    """
    original = getattr(owner, name)
    if getattr(original, _WRAP, None) is wrap:  # somebody has wrapped ours, and did not take it off again
        return lambda: None
    replacement = functools.wraps(original)(wrap(original))
    setattr(replacement, _WRAP, wrap)
    setattr(owner, name, replacement)

    def restore() -> None:
        if getattr(owner, name) is replacement:
            setattr(owner, name, original)

    return restore
