"""What surrounds every call: refusals become statuses, bugs are logged with an id, and each call can leave a line."""

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc

from agentlightning_server.errors import StoreError
from agentlightning_server.rpc.errors import abort, bug, code_of

_access = logging.getLogger("agentlightning.server.access")
_log = logging.getLogger(__name__)

Context = Any
"""grpc.aio's context; its type parameters say nothing to code that surrounds every call."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Surrounds every call of ours; none streams to the server alone."""

    def __init__(self) -> None:
        self._surrounded: dict[str, Any] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Surround the handler of a call, once for each method that there is."""
        if (known := self._surrounded.get(details.method)) is not None:
            return known
        handler = await continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        self._surrounded[details.method] = surrounded = _surround(details.method.rpartition("/")[2], handler)
        return surrounded


def _surround(method: str, handler: Any) -> Any:
    as_it_was = handler.request_deserializer, handler.response_serializer
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(_surround_call(method, handler.unary_unary), *as_it_was)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(_surround_stream(method, handler.unary_stream), *as_it_was)
    return grpc.stream_stream_rpc_method_handler(_surround_call(method, handler.stream_stream), *as_it_was)


def _surround_call(method: str, call: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Any]:
    """A call that returns its answer, or writes its answers and returns nothing."""

    async def surrounded(request: Any, context: Context) -> Any:
        begun = time.perf_counter()
        try:
            answer = await call(request, context)
        except Exception as error:
            await _refuse(method, begun, context, error)
        _access.debug('"%s" OK in %.1f ms', method, _milliseconds(begun))
        return answer

    return surrounded


def _surround_stream(
    method: str, call: Callable[[Any, Context], AsyncGenerator[Any, None]]
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def surrounded(request: Any, context: Context) -> AsyncIterator[Any]:
        begun = time.perf_counter()
        try:
            async with aclosing(call(request, context)) as answers:
                async for answer in answers:
                    yield answer
        except Exception as error:
            await _refuse(method, begun, context, error)
        _access.debug('"%s" OK in %.1f ms', method, _milliseconds(begun))

    return surrounded


async def _refuse(method: str, begun: float, context: Context, error: Exception) -> None:
    refusal = error if isinstance(error, StoreError) else bug()
    if refusal is not error:
        _log.error('"%s" failed: %s', method, refusal, exc_info=error)
    _access.info('"%s" %s in %.1f ms: %s', method, code_of(refusal).name, _milliseconds(begun), refusal)
    await abort(context, refusal)


def _milliseconds(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000
