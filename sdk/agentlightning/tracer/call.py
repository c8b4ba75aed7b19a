"""The span of one call of a model, from the request to the last of the answer. Knows no package that makes calls.

A failure to record is logged and never reaches the agent.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from agentlightning.tracer.chat import JSON, Attributes

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Api(Protocol):
    """What there is to know of one of a model server's APIs: a module for each."""

    @property
    def SPAN_NAME(self) -> str:
        """The name of a call's span."""

    def request_attributes(self, request: Mapping[str, Any], /) -> Attributes:
        """The attributes of a request."""

    def plain(self, response: object, /) -> Any:
        """The JSON of a response or of a chunk of one, as far as it is recorded."""

    def joined(self, chunks: Iterable[JSON], /) -> JSON:
        """The response that its chunks are the pieces of."""

    def response_attributes(self, response: JSON, /) -> Attributes:
        """The attributes of a whole response."""

    def tool_calls(self, response: JSON, /) -> Iterable[tuple[str, Attributes]]:
        """The tools that a response calls: their names, and the attributes of their spans."""


def safely(record: Callable[P, T]) -> Callable[P, T | None]:
    """What records, without a failure of it reaching the agent: that gives None."""

    @functools.wraps(record)
    def recording(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return record(*args, **kwargs)
        except Exception:
            _report_failure()
            return None

    return recording


@functools.cache
def _report_failure() -> None:
    _log.warning("A call of a model could not be recorded in full; this is said once.", exc_info=True)


class ModelCall:
    """The span of one call; as a context manager, until its stream ends.

    Attributes:
        api: What is called.
        span: The span.
        joined: Makes one response of what was added.
    """

    def __init__(self, tracer: trace.Tracer, api: Api) -> None:
        self.api = api
        self.span = tracer.start_span(api.SPAN_NAME, kind=SpanKind.CLIENT)
        self.joined: Callable[[list[Any]], JSON] = lambda chunks: api.joined(map(api.plain, chunks))
        self._tracer = tracer
        self._context = trace.set_span_in_context(self.span, otel_context.get_current())
        self._chunks: list[Any] = []
        self._status = Status(StatusCode.OK)

    @safely
    def ask(self, request: Mapping[str, Any]) -> None:
        """Record the request."""
        self.span.set_attributes(self.api.request_attributes(request))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Until the request is answered, the span is current; an exception fails the call."""
        try:
            with trace.use_span(self.span, record_exception=False, set_status_on_exception=False):
                yield
        except BaseException as error:
            self.fail(error)
            raise

    def add(self, chunk: Any) -> None:
        """Take a piece of the response, which is recorded at the end."""
        self._chunks.append(chunk)

    @safely
    def answer(self, response: object) -> None:
        """Record a whole response."""
        self._record(self.api.plain(response))

    def fail(self, error: BaseException) -> None:
        """Record what ended the call, after what there is of a response, and end the span."""
        if self.span.is_recording():
            self._record_chunks()
            self._record_error(error)
            self.span.end()

    def end(self) -> None:
        """Record what was added and end the span, unless it has ended."""
        if self.span.is_recording():
            self._record_chunks()
            self.span.set_status(self._status)
            self.span.end()

    def __enter__(self) -> "ModelCall":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, GeneratorExit):
            self.end()
        else:
            self.fail(error)

    @safely
    def _record_error(self, error: BaseException) -> None:
        self.span.record_exception(error)
        self.span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))

    @safely
    def _record_chunks(self) -> None:
        if self._chunks:
            self._record(self.joined(self._chunks))

    def _record(self, response: JSON) -> None:
        self.span.set_attributes(self.api.response_attributes(response))
        self._status = _status(response.get("error"))
        for name, attributes in self.api.tool_calls(response):
            self._tracer.start_span(f"tool_call.{name}", self._context, attributes=attributes).end()


def _status(error: Any) -> Status:
    """What a response that arrived says of itself."""
    if not error:
        return Status(StatusCode.OK)
    details = (error.get("code"), error.get("message")) if isinstance(error, dict) else (error,)
    return Status(StatusCode.ERROR, ": ".join(str(detail) for detail in details if detail))
