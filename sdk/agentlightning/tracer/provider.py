"""Where spans come from and how they find their attempt: a processor that joins tracer providers, and one of our own.

Knows OpenTelemetry's SDK and the attempt in the context; a span whose context names no attempt is never guessed one.
"""

import functools
import logging
import os
import secrets
import threading
from weakref import WeakSet

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import format_span_id

from agentlightning.tracer.attempt import AttemptTrace, attempt_of
from agentlightning.tracer.duplicates import OWN_SCOPE
from agentlightning.types import Span

_log = logging.getLogger(__name__)


class AttemptProcessor(SpanProcessor):
    """Numbers each span when it starts and hands it to its attempt when it ends."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], tuple[AttemptTrace, int]] = {}
        self._unattributed = 0
        self._lock = threading.Lock()

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Number the span; its parents have lower numbers."""
        attempt = attempt_of(parent_context)
        if attempt is None or attempt.ended:
            with self._lock:
                self._unattributed += attempt is None  # What an ended attempt left behind is dropped quietly.
        else:
            self._open[_key(span)] = attempt, attempt.next_sequence_id()
            attempt.model_calls.start(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand the span over."""
        attempt, sequence_id = self._open.pop(_key(span), (None, 0))
        if attempt and attempt.model_calls.end(span):
            taken = Span.from_opentelemetry(span, attempt.rollout_id, attempt.attempt_id, sequence_id)
            if span.parent and span.parent.span_id != (parent_id := attempt.model_calls.parent_id(span)):
                _move(taken, parent_id)
            attempt.add(taken)

    def end(self, attempt: AttemptTrace) -> None:
        """Accept no more spans of an attempt, and count those that never ended."""
        attempt.ended = True
        unfinished = [key for key, (owner, _) in self._open.copy().items() if owner is attempt]
        attempt.unfinished = sum(self._open.pop(key, None) is not None for key in unfinished)

    def take_unattributed(self) -> int:
        """How many spans belonged to no attempt since this was last asked."""
        with self._lock:
            count, self._unattributed = self._unattributed, 0
        return count


class _SecretIds(RandomIdGenerator):
    """Ids that do not repeat when an agent seeds `random`, as those of the base class do."""

    def generate_span_id(self) -> int:
        return secrets.randbits(64) or 1

    def generate_trace_id(self) -> int:
        return secrets.randbits(128) or 1


processor = AttemptProcessor()
_joined: WeakSet[trace.TracerProvider] = WeakSet()
_joining = threading.Lock()


@functools.cache
def own_tracer() -> trace.Tracer:
    """The tracer of our own spans: never sampled away and never cut, as a provider made for operations would."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        _log.warning("OTEL_SDK_DISABLED is set: no spans and no rewards will be recorded; unset it to train")
    return own_provider().get_tracer(OWN_SCOPE)


def join_global_provider() -> None:
    """See the spans that others make: join the global tracer provider, or be it where nobody has set one."""
    with _joining:
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(own_provider())
        provider = trace.get_tracer_provider()
        if provider not in _joined and hasattr(provider, "add_span_processor"):
            provider.add_span_processor(processor)
            _joined.add(provider)


@functools.cache
def own_provider() -> TracerProvider:
    """The provider of our own spans, and of instrumentors that a tracer enables."""
    unlimited = SpanLimits(*[SpanLimits.UNSET] * 8)
    provider = TracerProvider(
        sampler=ALWAYS_ON, id_generator=_SecretIds(), span_limits=unlimited, shutdown_on_exit=False
    )
    provider.add_span_processor(processor)
    _joined.add(provider)
    return provider


def _move(span: Span, parent_id: int | None) -> None:
    """Make the span a child of this parent."""
    span.parent_id = format_span_id(parent_id) if parent_id else None
    span.parent = span.parent.model_copy(update={"span_id": span.parent_id}) if span.parent and parent_id else None


def _key(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    return (context.trace_id, context.span_id) if context else (0, 0)
