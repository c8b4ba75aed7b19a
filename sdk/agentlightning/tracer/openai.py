"""One span for each chat completion that is asked for through the `openai` package inside a rollout.

Knows how that package makes calls and streams. A failure to record is logged and never reaches the agent.
"""

import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from agentlightning.emitter.recording import current_tracer
from agentlightning.tracer import chat
from agentlightning.tracer.patching import patch

_log = logging.getLogger(__name__)

_SPAN_NAME = "openai.chat.completion"


def instrument_openai() -> list[Callable[[], None]]:
    """Record chat completions from now on, if the package is installed.

    Returns:
        What undoes it.
    """
    if find_spec("openai") is None:
        return []
    from openai.resources.chat.completions import AsyncCompletions, Completions

    return [
        *(patch(Completions, name, _recording) for name in ("create", "parse")),
        *(patch(AsyncCompletions, name, _recording_async) for name in ("create", "parse")),
    ]


def _recording(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(completions: Any, *args: Any, **request: Any) -> Any:
        if not (tracer := current_tracer()):
            return method(completions, *args, **request)
        with _asking(tracer, request) as chat_span:
            response = method(completions, *args, **request)
        chat_span.answer(response)
        return response

    return call


def _recording_async(method: Callable[..., Any]) -> Callable[..., Any]:
    async def call(completions: Any, *args: Any, **request: Any) -> Any:
        if not (tracer := current_tracer()):
            return await method(completions, *args, **request)
        with _asking(tracer, request) as chat_span:
            response = await method(completions, *args, **request)
        chat_span.answer(response)
        return response

    return call


@contextmanager
def _asking(tracer: trace.Tracer, request: dict[str, Any]) -> "Iterator[_ChatSpan]":
    """The span of a request until it is answered, current meanwhile."""
    if "messages" in request:
        request["messages"] = list(request["messages"])  # It may be an iterator, which is read once.
    chat_span = _ChatSpan(tracer)
    chat_span.ask(request)
    try:
        with trace.use_span(chat_span.span, record_exception=False, set_status_on_exception=False):
            yield chat_span
    except BaseException as error:
        chat_span.fail(error)
        raise


def _safely(record: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(record)
    def recording(*args: Any) -> None:
        try:
            record(*args)
        except Exception:
            _report_failure()

    return recording


@functools.cache
def _report_failure() -> None:
    _log.warning("A chat completion could not be recorded in full; this is said once.", exc_info=True)


class _ChatSpan:
    """The span of one completion; as a context manager, until its stream ends."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self.span = tracer.start_span(_SPAN_NAME, kind=SpanKind.CLIENT)
        self._tracer = tracer
        self._context = trace.set_span_in_context(self.span, otel_context.get_current())
        self._chunks: list[Any] = []
        self._is_streaming = False

    @_safely
    def ask(self, request: dict[str, Any]) -> None:
        self.span.set_attributes(chat.request_attributes(request))

    def answer(self, response: Any) -> None:
        """Record the response and end the span; a stream ends it when it ends itself."""
        self._answer(response)
        if not self._is_streaming:
            self.end()

    @_safely
    def _answer(self, response: Any) -> None:
        # `with_raw_response` keeps what it parses, so that parsing here costs nothing and the caller gets the same.
        body = response.parse() if type(response).__name__ == "LegacyAPIResponse" else response
        if hasattr(body, "choices"):
            self._record(chat.plain(body))
        elif hasattr(body, "__anext__"):
            _watch_async(body, self)
            self._is_streaming = True
        elif hasattr(body, "__next__"):
            _watch(body, self)
            self._is_streaming = True

    @_safely
    def end(self) -> None:
        if self.span.is_recording():
            self._record_chunks()
            self.span.end()

    def add(self, chunk: Any) -> None:
        self._chunks.append(chunk)

    def __enter__(self) -> "_ChatSpan":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, GeneratorExit):
            self.end()
        else:
            self.fail(error)

    @_safely
    def fail(self, error: BaseException) -> None:
        self.span.record_exception(error)
        self.span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        self.end()

    @_safely
    def _record_chunks(self) -> None:
        if self._chunks:
            self._record(chat.joined(map(chat.plain, self._chunks)))

    def _record(self, response: dict[str, Any]) -> None:
        self.span.set_attributes(chat.response_attributes(response))
        self.span.set_status(Status(StatusCode.OK))
        for name, attributes in chat.tool_calls(response):
            self._tracer.start_span(f"tool_call.{name}", self._context, attributes=attributes).end()


def _watch(stream: Any, chat_span: _ChatSpan) -> None:
    """Let a stream tell of its chunks. It stays the object that it is: callers look at its type and attributes."""

    def recorded(chunks: Iterator[Any]) -> Iterator[Any]:
        with chat_span:
            for chunk in chunks:
                chat_span.add(chunk)
                yield chunk

    def close() -> None:
        try:
            close_stream()
        finally:
            chat_span.end()

    stream._iterator = recorded(stream._iterator)
    close_stream, stream.close = stream.close, close


def _watch_async(stream: Any, chat_span: _ChatSpan) -> None:
    async def recorded(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        with chat_span:
            async for chunk in chunks:
                chat_span.add(chunk)
                yield chunk

    async def close() -> None:
        try:
            await close_stream()
        finally:
            chat_span.end()

    stream._iterator = recorded(stream._iterator)
    close_stream, stream.close = stream.close, close
