"""Whether what an agent does is recorded: a tiny one asks a stand-in for a model on loopback, and earns a reward.

Needs no key, no store and no network.
"""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from agentlightning.adapter import llm_calls
from agentlightning.cli.checks.finding import Finding
from agentlightning.emitter import emit_reward, find_final_reward
from agentlightning.tracer import Tracer
from agentlightning.types import Span

_QUESTION, _ANSWER = "Is this recorded?", "It is."
_SECONDS = 20.0


async def recording() -> Finding:
    """Run an agent under the tracer and look at its spans."""
    from openai import __version__

    try:
        async with asyncio.timeout(_SECONDS):
            spans = await _spans_of_an_agent()
    except Exception as error:
        what = f"an agent could not be run under the tracer: {type(error).__name__}: {error}"
        return Finding("tracing", "problem", what, "see the versions above; say so in an issue if they are in range")
    if missing := _missing(spans):
        way_out = f"the tracer does not know openai {__version__}: install an earlier one, and say so in an issue"
        return Finding("tracing", "problem", f"not recorded: {', '.join(missing)}", way_out)
    what = f"calls through openai {__version__}, sync and async, are recorded with their words, and so is a reward"
    return Finding("tracing", "ok", what)


async def _spans_of_an_agent() -> Sequence[Span]:
    tracer = Tracer(instrumentors=())
    tracer.init_worker("doctor")
    try:
        with _model() as base_url:
            async with tracer.trace_context() as attempt:
                await _agent(base_url)
        return attempt.spans
    finally:
        tracer.teardown_worker("doctor")


async def _agent(base_url: str) -> None:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

    def ask() -> None:
        # Without the environment's proxy, which would be asked for loopback too.
        http = DefaultHttpxClient(trust_env=False)
        with OpenAI(api_key="none", base_url=base_url, max_retries=0, http_client=http) as client:
            client.chat.completions.create(model="none", messages=[{"role": "user", "content": _QUESTION}])

    await asyncio.to_thread(ask)
    asynchronous = DefaultAsyncHttpxClient(trust_env=False)
    async with AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0, http_client=asynchronous) as client:
        await client.chat.completions.create(model="none", messages=[{"role": "user", "content": _QUESTION}])
    emit_reward(1.0)


def _missing(spans: Sequence[Span]) -> list[str]:
    calls = llm_calls(spans)
    told = {
        "the call of a sync client, or that of an async one": len(calls) == 2,
        "what was asked": all(call.messages for call in calls),
        "what was answered": all(call.is_answered for call in calls),
        "the reward": find_final_reward(spans) == 1.0,
    }
    return [what for what, is_there in told.items() if not is_there]


class _Model(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        choice = {"index": 0, "message": {"role": "assistant", "content": _ANSWER}, "finish_reason": "stop"}
        body = {"id": "none", "object": "chat.completion", "created": 0, "model": "none", "choices": [choice]}
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _model() -> Iterator[str]:
    """Where a model can be asked while the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Model) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()
