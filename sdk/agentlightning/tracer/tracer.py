"""Recording what an agent does as spans of its attempt. Knows OpenTelemetry; of the store, only that it takes spans."""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from agentlightning.emitter.recording import with_tracer
from agentlightning.semconv import ATTEMPT_ID, ROLLOUT_ID, ROLLOUT_SPAN
from agentlightning.store.base import LightningStore
from agentlightning.tracer.attempt import AttemptTrace, Deliver, with_attempt
from agentlightning.tracer.instrumentation import instrument, uninstrument
from agentlightning.tracer.instrumentors import checked, gen_ai_instrumentors
from agentlightning.tracer.provider import join_global_provider, own_tracer, processor
from agentlightning.types import Span

_log = logging.getLogger(__name__)

_last_trace: ContextVar[AttemptTrace | None] = ContextVar("agentlightning-last-trace", default=None)


class Tracer:
    """Records rollouts, any number at once, in tasks and threads.

    Its own spans (the attempt's, LLM calls, what is emitted) are made by a provider of its own, so that no sampler or
    limit meant for operations cuts them. The spans that others make are seen too: it joins the global tracer provider
    and never replaces it; where none was set, it sets its own. A program that brings its own provider sets it before
    the first worker starts, as OpenTelemetry lets nobody replace one.

    Calls of the `openai` package are recorded by itself. OpenTelemetry's instrumentors of other packages are enabled
    while a worker runs; a call of a model that one of them sees too stays one span, the tracer's own. To enable two by
    their names: `agl.LitAgentRunner(tracer=agl.Tracer(instrumentors=["httpx", "langchain"]))`.

    Args:
        instrumentors: The names of those to enable, as their packages announce them to OpenTelemetry. None: those of
            agent frameworks and models' clients that are installed, and whose module the program has imported when the
            first worker starts.

    Raises:
        InstrumentationError: One of the names is not installed.

    Example:
        >>> import asyncio
        >>> import agentlightning as agl
        >>> async def traced() -> list[str]:
        ...     tracer = agl.Tracer()
        ...     async with tracer.trace_context():
        ...         agl.emit_reward(1.0)
        ...     return [span.name for span in tracer.get_last_trace()]
        >>> asyncio.run(traced())
        ['agentlightning.rollout', 'agentlightning.annotation']
    """

    def __init__(self, *, instrumentors: Iterable[str] | None = None) -> None:
        self._instrumentors = None if instrumentors is None else checked(instrumentors)
        self._store: LightningStore | None = None

    def init_worker(self, worker_id: int | str, store: LightningStore | None = None) -> None:
        """Instrument this process for a worker.

        Args:
            worker_id: The worker's name in the log.
            store: Where the spans of a `trace_context` without `deliver` go.
        """
        _log.info("[Worker %s] Setting up tracer...", worker_id)
        self._store = store
        join_global_provider()
        if self._instrumentors is None:
            self._instrumentors = gen_ai_instrumentors()
        instrument(self._instrumentors)
        _log.info("[Worker %s] Instrumentation applied.", worker_id)

    def teardown_worker(self, worker_id: int | str) -> None:
        """Undo `init_worker`."""
        uninstrument(self._instrumentors or ())
        if count := processor.take_unattributed():
            _log.info("[Worker %s] %d span(s) belonged to no rollout and were not recorded.", worker_id, count)
        _log.info("[Worker %s] Instrumentation removed.", worker_id)

    @asynccontextmanager
    async def trace_context(
        self,
        name: str | None = None,
        *,
        rollout_id: str | None = None,
        attempt_id: str | None = None,
        next_sequence_id: int = 1,
        deliver: Deliver | None = None,
    ) -> AsyncIterator[AttemptTrace]:
        """Record what happens inside as one attempt, under a root span that is current.

        Args:
            name: Another name for the root span.
            rollout_id: The rollout.
            attempt_id: Its attempt.
            next_sequence_id: The number of the root span.
            deliver: Given each span as it ends. Without it, the spans go to the worker's store when the context ends.

        Raises:
            ValueError: When only one of the ids is given.
        """
        if (rollout_id is None) != (attempt_id is None):
            raise ValueError(f"give rollout_id and attempt_id, or neither: they are {rollout_id!r} and {attempt_id!r}")
        attempt = AttemptTrace(rollout_id or "", attempt_id or "", next_sequence_id=next_sequence_id, deliver=deliver)
        _last_trace.set(attempt)
        try:
            with _recording(attempt, name or ROLLOUT_SPAN):
                yield attempt
        finally:
            processor.end(attempt)
            if attempt.unfinished:
                _log.warning("[Rollout %s] %d span(s) never ended.", rollout_id, attempt.unfinished)
            if rollout_id and self._store and not deliver:
                await self._store.add_many_spans(attempt.spans)

    def get_last_trace(self) -> list[Span]:
        """The spans of the `trace_context` that was entered last in this task or thread, in the order they began."""
        attempt = _last_trace.get()
        return attempt.spans if attempt else []


@contextmanager
def _recording(attempt: AttemptTrace, name: str) -> Iterator[None]:
    tracer = own_tracer()
    # A fresh context: the root is a root even if the caller is inside a span of its own.
    context = with_tracer(tracer, with_attempt(attempt, Context()))
    attempt.root = tracer.start_span(
        name, context, attributes={ROLLOUT_ID: attempt.rollout_id, ATTEMPT_ID: attempt.attempt_id}
    )
    token = otel_context.attach(context)
    try:
        with trace.use_span(attempt.root, end_on_exit=True):
            yield
    finally:
        otel_context.detach(token)


AgentOpsTracer = OtelTracer = Tracer
"""Names that existing code has for `Tracer`: the same class, and no package is needed for either.

Example:
    >>> import agentlightning as agl
    >>> runner = agl.LitAgentRunner(tracer=agl.AgentOpsTracer())
    >>> agl.AgentOpsTracer is agl.OtelTracer is agl.Tracer
    True
"""
