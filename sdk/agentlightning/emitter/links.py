"""Tags and links: attributes by which spans are found, and which other spans one is about. Knows no tracer."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from agentlightning.emitter.recording import HasAttributes
from agentlightning.semconv import LINK_PREFIX, TAG_PREFIX
from agentlightning.types import Span

SpanT = TypeVar("SpanT", bound=HasAttributes)

_TAG: Final = re.compile(rf"{re.escape(TAG_PREFIX)}\.(\d+)")
_LINK: Final = re.compile(rf"{re.escape(LINK_PREFIX)}\.(\d+)\.key_match")


class LinkMatch(NamedTuple):
    """What a linked span has: this value under this name, which may also be `trace_id` or `span_id`.

    >>> LinkMatch("gen_ai.response.id", "chatcmpl-1").key_match
    'gen_ai.response.id'
    """

    key_match: str
    value_match: str


def make_tag_attributes(tags: Iterable[str]) -> dict[str, str]:
    """The attributes that carry tags, to be given to an emitter.

    Raises:
        TypeError: When the tags are one text, or a tag is none.

    >>> make_tag_attributes(["judge", "final"])
    {'agentlightning.tag.0': 'judge', 'agentlightning.tag.1': 'final'}
    """
    if isinstance(tags, str):
        raise TypeError(f"tags must be a list of texts; it is {tags!r}: write [{tags!r}]")
    return {f"{TAG_PREFIX}.{index}": _text("a tag", tag) for index, tag in enumerate(tags)}


def extract_tags_from_attributes(attributes: Mapping[str, Any]) -> list[str]:
    """The tags among attributes, in their order; what is malformed is passed over.

    >>> extract_tags_from_attributes(make_tag_attributes(["judge", "final"]))
    ['judge', 'final']
    """
    return [attributes[key] for key in _numbered(_TAG, attributes) if isinstance(attributes[key], str)]


def make_link_attributes(links: Mapping[str, str]) -> dict[str, str]:
    """The attributes that link a span to those that have all these values, to be given to an emitter.

    Args:
        links: The values by name: of attributes, or `trace_id` and `span_id`.

    Raises:
        TypeError: When a value is not text.

    >>> make_link_attributes({"span_id": "00f067aa0ba902b7"})
    {'agentlightning.link.0.key_match': 'span_id', 'agentlightning.link.0.value_match': '00f067aa0ba902b7'}
    """
    attributes = {}
    for index, (key, value) in enumerate(links.items()):
        attributes[f"{LINK_PREFIX}.{index}.key_match"] = key
        attributes[f"{LINK_PREFIX}.{index}.value_match"] = _text(f"the link {key!r}", value)
    return attributes


def extract_links_from_attributes(attributes: Mapping[str, Any]) -> list[LinkMatch]:
    """The links among attributes, in their order; what is malformed is passed over.

    >>> extract_links_from_attributes(make_link_attributes({"room": "Lyra"}))
    [LinkMatch(key_match='room', value_match='Lyra')]
    """
    keys = _numbered(_LINK, attributes)
    pairs = [(attributes[key], attributes.get(f"{key.removesuffix('key_match')}value_match")) for key in keys]
    return [LinkMatch(key, value) for key, value in pairs if isinstance(key, str) and isinstance(value, str)]


def query_linked_spans(spans: Iterable[SpanT], links: Iterable[LinkMatch]) -> list[SpanT]:
    """Those of the spans that have what every link asks for; none when there are no links.

    >>> from agentlightning.emitter import emit_annotation
    >>> spans = [emit_annotation({"room": "Lyra"}), emit_annotation({"room": "Vega"})]
    >>> query_linked_spans(spans, [LinkMatch("room", "Vega")]) == spans[1:]
    True
    """
    wanted = list(links)
    return [span for span in spans if wanted and all(_has(span, link) for link in wanted)]


def _has(span: HasAttributes, link: LinkMatch) -> bool:
    values = {**(span.attributes or {}), **_ids(span)}
    return bool(values.get(link.key_match) == link.value_match)


def _ids(span: Any) -> dict[str, str]:
    if isinstance(span, Span):
        return {"trace_id": span.trace_id, "span_id": span.span_id}
    context = span.get_span_context() if hasattr(span, "get_span_context") else None
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"} if context else {}


def _numbered(pattern: re.Pattern[str], attributes: Mapping[str, Any]) -> list[str]:
    matches = filter(None, map(pattern.fullmatch, attributes))
    return [match[0] for match in sorted(matches, key=lambda match: int(match[1]))]


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text; it is {value!r} ({type(value).__qualname__})")
    return value
