"""A real HTTP server on loopback that speaks OpenAI's chat completions API and answers with a function of the caller's.

Knows nothing of agents, prompts or training.
"""

import hashlib
import json
import re
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

JSON = dict[str, Any]


@dataclass(frozen=True)
class ChatRequest:
    """One request for a chat completion.

    Attributes:
        body: The request as it was sent.
        digest: SHA-256 of the body as canonical JSON, in hex.
        occurrence: How many times the server had seen this very body before.
    """

    body: JSON
    digest: str
    occurrence: int

    @property
    def model(self) -> str:
        """The name of the model that was asked for."""
        return str(self.body.get("model", ""))

    @property
    def messages(self) -> list[JSON]:
        """The conversation so far."""
        messages: list[JSON] = self.body["messages"]
        return messages

    @property
    def tools(self) -> list[JSON]:
        """The tools on offer, empty when there are none."""
        return self.body.get("tools") or []


@dataclass(frozen=True)
class ChatReply:
    """What the model says: text, calls of tools as (name, arguments), or both."""

    content: str | None = None
    tool_calls: Sequence[tuple[str, JSON]] = ()


Answer = Callable[[ChatRequest], ChatReply]


class OpenAIServer:
    """Serves `POST /v1/chat/completions` on loopback from the moment it is entered or started.

    Replies depend on the request and its occurrence alone: ids are hashes of the two, `created` is 0, and a token is
    taken to be four characters. What `answer` raises is returned as an OpenAI error: a `ValueError` with status 400,
    anything else with 500.

    Args:
        answer: Called once for every request, in a thread of the request's connection.
        port: The port to listen on; 0 takes a free one.
    """

    def __init__(self, answer: Answer, port: int = 0):
        self._answer = answer
        self._port = port
        self._seen: Counter[str] = Counter()
        self._seen_lock = threading.Lock()
        self._stopping = False

    @property
    def base_url(self) -> str:
        """What a client is given as its `base_url`."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def start(self) -> None:
        """Listens, and returns once connections are accepted."""
        self._stopping = False
        self._http = _HTTPServer(("127.0.0.1", self._port), self._reply)
        self._thread = threading.Thread(target=self._serve, name="openai-server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finishes the replies under way, closes every connection and ends every thread."""
        self._stopping = True
        # The thread is blocked in accept; serve_forever would notice only at its next poll.
        socket.create_connection(("127.0.0.1", self._http.server_port)).close()
        self._thread.join()
        self._http.hang_up()
        self._http.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self) -> None:
        while not self._stopping:
            self._http.handle_request()

    def _reply(self, body: JSON) -> "_Completion":
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with self._seen_lock:
            occurrence = self._seen[digest]
            self._seen[digest] += 1
        request = ChatRequest(body, digest, occurrence)
        return _Completion(request, self._answer(request))


@dataclass(frozen=True)
class _Completion:
    """A reply in OpenAI's words, whole or in chunks."""

    request: ChatRequest
    reply: ChatReply

    @cached_property
    def _id(self) -> str:
        return hashlib.sha256(f"{self.request.digest}:{self.request.occurrence}".encode()).hexdigest()[:24]

    @property
    def _finish_reason(self) -> str:
        return "tool_calls" if self.reply.tool_calls else "stop"

    @cached_property
    def _tool_calls(self) -> list[JSON]:
        return [
            {
                "id": f"call_{self._id}_{index}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for index, (name, arguments) in enumerate(self.reply.tool_calls)
        ]

    @property
    def _usage(self) -> JSON:
        said = (self.reply.content or "") + "".join(call["function"]["arguments"] for call in self._tool_calls)
        prompt, completion = len(json.dumps(self.request.messages)) // 4, len(said) // 4
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def whole(self) -> JSON:
        message: JSON = {"role": "assistant", "content": self.reply.content, "refusal": None}
        if self._tool_calls:
            message["tool_calls"] = self._tool_calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason}
        return self._object("chat.completion", choices=[choice], usage=self._usage)

    def chunks(self) -> Iterator[JSON]:
        yield self._chunk({"role": "assistant"})
        for piece in re.findall(r"\S+\s*|\s+", self.reply.content or ""):
            yield self._chunk({"content": piece})
        for index, call in enumerate(self._tool_calls):
            yield self._chunk({"tool_calls": [{"index": index, **call}]})
        yield self._chunk({}, self._finish_reason)
        if (self.request.body.get("stream_options") or {}).get("include_usage"):
            yield self._object("chat.completion.chunk", choices=[], usage=self._usage)

    def _chunk(self, delta: JSON, finish_reason: str | None = None) -> JSON:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self._object("chat.completion.chunk", choices=[choice])

    def _object(self, kind: str, **fields: Any) -> JSON:
        return {"id": f"chatcmpl-{self._id}", "object": kind, "created": 0, "model": self.request.model, **fields}


class _HTTPServer(ThreadingHTTPServer):
    """Knows its connections, so that those a client keeps alive can be ended."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], reply: Callable[[JSON], _Completion]):
        self.reply = reply
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        for connection in self._connections.copy():
            with suppress(OSError):  # The client was first.
                connection.shutdown(socket.SHUT_RD)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _HTTPServer

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._send(HTTPStatus.OK, {"object": "list", "data": []})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"There is no GET {self.path}.")

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/v1/chat/completions":
            return self._refuse(HTTPStatus.NOT_FOUND, f"There is no POST {self.path}.")
        try:
            completion = self.server.reply(_chat_body(text))
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
        else:
            if completion.request.body.get("stream"):
                self._stream(completion)
            else:
                self._send(HTTPStatus.OK, completion.whole())

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        self._send(status, {"error": {"message": message, "type": kind, "param": None, "code": None}})

    def _send(self, status: HTTPStatus, value: JSON) -> None:
        payload = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _stream(self, completion: _Completion) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in completion.chunks():
            self._event(json.dumps(chunk))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.flush()


def _chat_body(text: bytes) -> JSON:
    """The request, or ValueError when it is none (as JSON's own errors are)."""
    body = json.loads(text)
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise ValueError("The body must be a JSON object with a list of messages.")
    return body
