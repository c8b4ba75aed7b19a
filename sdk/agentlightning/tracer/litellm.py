"""One span for each chat completion that is asked for through LiteLLM inside a rollout.

Knows how that package answers and streams. Where it calls the `openai` package, whose calls are recorded too, that span
is the one that is kept.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from agentlightning.emitter.recording import current_tracer
from agentlightning.tracer import chat
from agentlightning.tracer.call import ModelCall
from agentlightning.tracer.chat import JSON
from agentlightning.tracer.duplicates import LITELLM_SCOPE
from agentlightning.tracer.patching import patch
from agentlightning.tracer.provider import own_provider

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
        call = _call(args, request)
        with call.asking():
            response = method(*args, **request)
        _answer(call, response)
        return response

    return completion


def _recording_async(method: Callable[..., Any]) -> Callable[..., Any]:
    async def acompletion(*args: Any, **request: Any) -> Any:
        if not current_tracer():
            return await method(*args, **request)
        call = _call(args, request)
        with call.asking():
            response = await method(*args, **request)
        _answer(call, response)
        return response

    return acompletion


def _hearing(method: Callable[..., Any]) -> Callable[..., Any]:
    def next_chunk(stream: Any) -> Any:
        with _listening(stream) as add:
            chunk = method(stream)
            add(chunk)
        return chunk

    return next_chunk


def _hearing_async(method: Callable[..., Any]) -> Callable[..., Any]:
    async def next_chunk(stream: Any) -> Any:
        with _listening(stream) as add:
            chunk = await method(stream)
            add(chunk)
        return chunk

    return next_chunk


class _Completion:
    """A chat completion as `chat` tells it, but the tools it calls have no spans: another span may stand for the call.

    See `Api`.
    """

    SPAN_NAME = "litellm.completion"
    request_attributes = staticmethod(chat.request_attributes)
    plain = staticmethod(chat.plain)
    joined = staticmethod(chat.joined)
    response_attributes = staticmethod(chat.response_attributes)

    @staticmethod
    def tool_calls(response: JSON) -> tuple[()]:
        return ()


def _call(args: tuple[Any, ...], request: dict[str, Any]) -> ModelCall:
    """The call that these arguments make."""
    call = ModelCall(own_provider().get_tracer(LITELLM_SCOPE), _Completion())
    given = dict(zip(("model", "messages"), args, strict=False)) | request
    call.ask({name: value for name, value in given.items() if name in _RECORDED})
    return call


def _answer(call: ModelCall, response: Any) -> None:
    """Record the answer and end the span; a stream ends it when it ends itself."""
    if hasattr(response, "choices"):
        call.answer(response)
        call.end()
    else:
        setattr(response, _CALL, call)


@contextmanager
def _listening(stream: Any) -> Iterator[Callable[[Any], None]]:
    """What takes a stream's next chunk."""
    call: ModelCall | None = getattr(stream, _CALL, None)
    try:
        yield call.add if call else _ignore
    except (StopIteration, StopAsyncIteration):
        if call:
            call.end()
        raise
    except BaseException as error:
        if call:
            call.fail(error)
        raise


def _ignore(chunk: Any) -> None:
    """Take a chunk of a stream that nobody records."""
