"""A real HTTP server on loopback that speaks OpenAI's APIs, answers with a function of the caller's, and fails as told.

Knows nothing of agents, prompts or training, and leaves to `openai_replies` how an answer is worded.
"""

import hashlib
import json
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Self

from agentlightning.testing.openai_replies import Answer, ChatReply, Reply, chat_completion, embeddings, response
from agentlightning.testing.openai_requests import JSON, ChatRequest

__all__ = ["Answer", "ChatReply", "ChatRequest", "Fault", "OpenAIServer"]

_Words = Callable[[ChatRequest, Answer], Reply]

_WORDS: Final[Mapping[str, _Words]] = {
    "/v1/chat/completions": chat_completion,
    "/v1/responses": response,
    "/v1/embeddings": embeddings,
}
_KINDS: Final = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
_NO_HEADERS: Final = MappingProxyType[str, str]({})


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Example:
        >>> Fault(status=429, retry_after=0.1)
        Fault(status=429, retry_after=0.1, delay=0.0, cut_after=None)

    Attributes:
        status: The HTTP status of an error that is returned in place of the answer.
        retry_after: After how many seconds the error tells the client to try again.
        delay: How many seconds pass before anything is sent; `stop` does not wait for them.
        cut_after: After how many events of a stream the connection breaks; a reply that is no stream ends halfway.
    """

    status: int | None = None
    retry_after: float | None = None
    delay: float = 0.0
    cut_after: int | None = None


_NO_FAULT: Final = Fault()


class OpenAIServer:
    """Serves `/v1/chat/completions`, `/v1/responses` and `/v1/embeddings` from the moment it is entered or started.

    Replies depend on the request and its occurrence alone: ids are hashes of the two, `created` is 0, and a token is
    taken to be four characters. Embeddings are made up from the texts. What `answer` raises is returned as an OpenAI
    error: a `ValueError` with status 400, anything else with 500.

    Example:
        >>> from openai import OpenAI
        >>> refused = Fault(status=429, retry_after=0.1)
        >>> with OpenAIServer(lambda request: ChatReply("Blue."), faults={0: refused}) as server:
        ...     client = OpenAI(api_key="any", base_url=server.base_url)  # It tries again by itself.
        ...     client.responses.create(model="any", input="Which colour has the sky?").output_text
        'Blue.'

    Args:
        answer: Called for every request of a completion or response, in a thread of the request's connection.
        port: The port to listen on; 0 takes a free one.
        faults: What goes wrong with which requests, counted from 0 in the order in which they arrive.
    """

    def __init__(self, answer: Answer, port: int = 0, *, faults: Mapping[int, Fault] | None = None):
        self._answer = answer
        self._port = port
        self._faults = faults or {}
        self._seen: Counter[str] = Counter()
        self._seen_lock = threading.Lock()
        self._stopping = threading.Event()

    @property
    def base_url(self) -> str:
        """What a client is given as its `base_url`."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def start(self) -> None:
        """Listens, and returns once connections are accepted."""
        self._stopping.clear()
        self._http = _HTTPServer(("127.0.0.1", self._port), self._reply)
        self._thread = threading.Thread(target=self._serve, name="openai-server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finishes the replies under way, closes every connection and ends every thread."""
        self._stopping.set()
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
        while not self._stopping.is_set():
            self._http.handle_request()

    def _reply(self, words: _Words, body: JSON) -> tuple[Reply | None, Fault]:
        """What is said to a request, None when the fault takes its place."""
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with self._seen_lock:
            request = ChatRequest(body, digest, self._seen[digest], self._seen.total())
            self._seen[digest] += 1
        fault = self._faults.get(request.number, _NO_FAULT)
        if fault.delay:
            self._stopping.wait(fault.delay)
        return (None if fault.status else words(request, self._answer)), fault


class _HTTPServer(ThreadingHTTPServer):
    """Knows its connections, so that those a client keeps alive can be ended."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], reply: Callable[[_Words, JSON], tuple[Reply | None, Fault]]):
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
        if self.path not in _WORDS:
            return self._refuse(HTTPStatus.NOT_FOUND, f"There is no POST {self.path}.")
        try:
            body = _json_object(text)
            reply, fault = self.server.reply(_WORDS[self.path], body)
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
        else:
            self._answer(reply, fault, bool(body.get("stream")))

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, reply: Reply | None, fault: Fault, is_streaming: bool) -> None:
        if not reply:
            self._refuse(fault.status or HTTPStatus.INTERNAL_SERVER_ERROR, "As the test wants it.", fault.retry_after)
        elif is_streaming:
            self._stream(reply, fault.cut_after)
        else:
            self._send(HTTPStatus.OK, reply.whole(), is_cut=fault.cut_after is not None)

    def _refuse(self, status: int, message: str, retry_after: float | None = None) -> None:
        kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else _KINDS.get(status, _KINDS[400])
        waiting = {} if retry_after is None else {"retry-after-ms": str(retry_after * 1000)}
        self._send(status, {"error": {"message": message, "type": kind, "param": None, "code": None}}, waiting)

    def _send(self, status: int, value: JSON, headers: Mapping[str, str] = _NO_HEADERS, is_cut: bool = False) -> None:
        payload = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(payload)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(payload[: len(payload) // 2] if is_cut else payload)
        if is_cut:
            self.close_connection = True

    def _stream(self, reply: Reply, cut_after: int | None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in islice(reply.events(), cut_after):
            self._write_chunk(event.encode())
        if cut_after is None:
            self._write_chunk(b"")
        else:
            self.close_connection = True

    def _write_chunk(self, chunk: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.flush()


def _json_object(text: bytes) -> JSON:
    """The request, or ValueError when it is none (as JSON's own errors are)."""
    body = json.loads(text)
    if not isinstance(body, dict):
        raise ValueError("The body must be a JSON object.")
    return body
