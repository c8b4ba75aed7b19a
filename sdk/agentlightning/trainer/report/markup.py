"""HTML and SVG built of elements. The one place that escapes: what is not `Markup` is text that others wrote."""

import html
import re
from collections.abc import Iterable
from typing import Final

_VOID: Final = frozenset({"meta", "br"})
_BLOCKS: Final = frozenset({"head", "header", "nav", "section", "h2", "p", "li", "tr", "dd", "pre", "svg", "figure"})
"""Elements that end a line of the document, for who reads it as it stands."""
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters and halves of surrogate pairs, which no document may hold."""


class Markup(str):
    """A text that is HTML already."""


Content = str | Iterable[Markup]


def escaped(text: str) -> Markup:
    """A text as it stands, whatever is in it."""
    return Markup(html.escape(_FORBIDDEN.sub("\ufffd", text)))


def tag(element: str, /, *children: Content, **attributes: object) -> Markup:
    """An element.

    Args:
        element: Its name.
        children: What is in it: texts, which are escaped, and markup.
        attributes: Its attributes; `class_` is `class`, `aria_label` is `aria-label`. None is left out.
    """
    told = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if element in _VOID:
        return Markup(f"<{element}{told}>")
    return Markup(f"<{element}{told}>{joined(*children)}</{element}>" + ("\n" if element in _BLOCKS else ""))


def joined(*children: Content) -> Markup:
    """Texts and markup one after the other."""
    return Markup("".join(_inner(child) for child in children))


def _attribute(name: str, value: object) -> str:
    return f' {name.rstrip("_").replace("_", "-")}="{escaped(_shown(value))}"'


def _shown(value: object) -> str:
    """A coordinate in a tenth of a unit, which is as fine as anyone sees."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _inner(child: Content) -> str:
    if isinstance(child, Markup):
        return child
    return escaped(child) if isinstance(child, str) else "".join(child)
