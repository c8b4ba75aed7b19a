"""One span for each call of a model that is made through the `openai` package inside a rollout.

Knows how that package makes calls: each passes through the `request` of its client, also one of a wrapper (as
`with_raw_response` is) that somebody made and kept before recording began.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Final

from agentlightning.emitter.recording import current_tracer
from agentlightning.tracer import chat, embeddings, responses
from agentlightning.tracer.call import Api, ModelCall, safely
from agentlightning.tracer.patching import patch
from agentlightning.tracer.streams import watch

_APIS: Final[Mapping[str, Api]] = {
    "/chat/completions": chat,
    "/responses": responses,
    "/embeddings": embeddings,
}


def instrument_openai() -> list[Callable[[], None]]:
    """Record calls from now on, those of clients that are there too, if the package is installed.

    Returns:
        What undoes it.
    """
    if find_spec("openai") is None:
        return []
    from openai import AsyncOpenAI, OpenAI

    return [
        patch(_definer(OpenAI, "request"), "request", _recording),
        patch(_definer(AsyncOpenAI, "request"), "request", _recording_async),
    ]


def _definer(owner: type, name: str) -> type:
    """The class that a class has a method from."""
    return next(base for base in owner.__mro__ if name in vars(base))


def _recording(method: Callable[..., Any]) -> Callable[..., Any]:
    def request(client: Any, cast_to: Any, options: Any, **streaming: Any) -> Any:
        if not (call := _call(options)):
            return method(client, cast_to, options, **streaming)
        with call.asking():
            response = method(client, cast_to, options, **streaming)
        _answer(call, response)
        return response

    return request


def _recording_async(method: Callable[..., Any]) -> Callable[..., Any]:
    async def request(client: Any, cast_to: Any, options: Any, **streaming: Any) -> Any:
        if not (call := _call(options)):
            return await method(client, cast_to, options, **streaming)
        with call.asking():
            response = await method(client, cast_to, options, **streaming)
        _answer(call, response)
        return response

    return request


@safely
def _call(options: Any) -> ModelCall | None:
    """The call that a request with these options is, None when it is none or is made outside of a rollout."""
    tracer, api = current_tracer(), _APIS.get(options.url)
    if not tracer or not api or options.method.lower() != "post":
        return None
    request = {**(options.json_data or {}), **(options.extra_json or {})}
    call = ModelCall(tracer, api)
    call.ask(request)
    return call


def _answer(call: ModelCall, response: Any) -> None:
    """Record the response and end the span; a stream ends it when it ends itself."""
    if not _is_streamed(call, response):
        call.end()


@safely
def _is_streamed(call: ModelCall, response: Any) -> bool:
    # `with_raw_response` keeps what it parses, so that parsing here costs nothing and the caller gets the same.
    body = response.parse() if type(response).__name__ == "LegacyAPIResponse" else response
    if watch(body, call):
        return True
    call.answer(body)
    return False
