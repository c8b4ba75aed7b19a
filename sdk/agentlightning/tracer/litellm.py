"""One span for each chat completion that is asked for through LiteLLM inside a rollout.

Knows how that package answers and streams. Where it calls the `openai` package, whose calls are recorded too, that span
is the one that is kept. A failure to record is logged and never reaches the agent.
"""

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from agentlightning.emitter.recording import current_tracer
from agentlightning.tracer import chat
from agentlightning.tracer.duplicates import LITELLM_SCOPE
from agentlightning.tracer.patching import patch
from agentlightning.tracer.provider import own_provider

_log = logging.getLogger(__name__)

_SPAN_NAME: Final = "litellm.completion"
_CALL: Final = "_agentlightning_call"
_QUESTION: Final = frozenset({"model", "messages", "tools", "tool_choice", "response_format", "stream", "user"})
_SAMPLING: Final = frozenset(
    {"temperature", "top_p", "n", "stop", "seed", "max_tokens", "max_completion_tokens", "reasoning_effort"}
)
_RECORDED: Final = _QUESTION | _SAMPLING  # and nothing else: there are keys and addresses among the rest


def instrument_litellm() -> list[Callable[[], None]]:
    """Record completions from now on, if the program has imported the package: that takes seconds.

    Returns:
        What undoes it.
    """
    if not (litellm := sys.modules.get("litellm")):
        return []
    stream: type = litellm.CustomStreamWrapper
    return [
        patch(litellm, "completion", _recording),
        patch(litellm, "acompletion", _recording_async),
        patch(stream, "__next__", _hearing),
        patch(stream, "__anext__", _hearing_async),
    ]


def _recording(method: Callable[..., Any]) -> Callable[..., Any]:
    def completion(*args: Any, **request: Any) -> Any:
        if not current_tracer() or request.get("acompletion"):  # which `acompletion` calls this with
            return method(*args, **request)
        with _asking(args, request) as call:
            response = method(*args, **request)
        call.answer(response)
        return response

    return completion


def _recording_async(method: Callable[..., Any]) -> Callable[..., Any]:
    async def acompletion(*args: Any, **request: Any) -> Any:
        if not current_tracer():
            return await method(*args, **request)
        with _asking(args, request) as call:
            response = await method(*args, **request)
        call.answer(response)
        return response

    return acompletion


def _hearing(method: Callable[..., Any]) -> Callable[..., Any]:
    def next_chunk(stream: Any) -> Any:
        with _listening(stream) as chunks:
            chunk = method(stream)
            chunks.append(chunk)
        return chunk

    return next_chunk


def _hearing_async(method: Callable[..., Any]) -> Callable[..., Any]:
    async def next_chunk(stream: Any) -> Any:
        with _listening(stream) as chunks:
            chunk = await method(stream)
            chunks.append(chunk)
        return chunk

    return next_chunk


class _Call:
    """The span of one completion, and the chunks of its answer so far."""

    def __init__(self) -> None:
        self.span = own_provider().get_tracer(LITELLM_SCOPE).start_span(_SPAN_NAME, kind=SpanKind.CLIENT)
        self.chunks: list[Any] = []

    def ask(self, request: dict[str, Any]) -> None:
        _safely(lambda: self.span.set_attributes(chat.request_attributes(request)))

    def answer(self, response: Any) -> None:
        """Record the answer and end the span; a stream ends it when it ends itself."""
        if hasattr(response, "choices"):
            self._end(lambda: chat.plain(response))
        else:
            setattr(response, _CALL, self)

    def end_of_stream(self) -> None:
        self._end(lambda: chat.joined(map(chat.plain, self.chunks)))

    def fail(self, error: BaseException) -> None:
        self.span.record_exception(error)
        self.span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        self.span.end()

    def _end(self, response: Callable[[], dict[str, Any]]) -> None:
        _safely(lambda: self.span.set_attributes(chat.response_attributes(response())))
        self.span.set_status(Status(StatusCode.OK))
        self.span.end()


@contextmanager
def _asking(args: tuple[Any, ...], request: dict[str, Any]) -> Iterator[_Call]:
    """The span of a request until it is answered, current meanwhile."""
    call = _Call()
    given = dict(zip(("model", "messages"), args, strict=False)) | request
    call.ask({name: value for name, value in given.items() if name in _RECORDED})
    try:
        with trace.use_span(call.span, record_exception=False, set_status_on_exception=False):
            yield call
    except BaseException as error:
        call.fail(error)
        raise


@contextmanager
def _listening(stream: Any) -> Iterator[list[Any]]:
    """Where to put a stream's next chunk."""
    call: _Call | None = getattr(stream, _CALL, None)
    try:
        yield call.chunks if call else []
    except (StopIteration, StopAsyncIteration):
        if call:
            call.end_of_stream()
        raise
    except BaseException as error:
        if call:
            call.fail(error)
        raise


def _safely(record: Callable[[], None]) -> None:
    try:
        record()
    except Exception:
        _report_failure()


@functools.cache
def _report_failure() -> None:
    _log.warning("A completion of LiteLLM could not be recorded in full; this is said once.", exc_info=True)
