"""Refusals of the store as gRPC statuses with google.rpc details."""

import secrets
from typing import NoReturn

import grpc
from agentlightning.v1.error_reason_pb2 import ErrorReason
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from agentlightning_server.errors import StoreError

DOMAIN = "agentlightning"
DETAILS_KEY = "grpc-status-details-bin"
# OpenTelemetry's exporters look for the back-off here instead of in the details.
_RETRY_KEY = "google.rpc.retryinfo-bin"
_RETRY_AFTER = duration_pb2.Duration(nanos=500_000_000)

_R = ErrorReason
_CODES = {
    _R.ERROR_REASON_FIELD_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_PAGE_TOKEN_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_REQUEST_ID_REUSED: grpc.StatusCode.INVALID_ARGUMENT,
    _R.ERROR_REASON_ROLLOUT_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    _R.ERROR_REASON_ATTEMPT_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    _R.ERROR_REASON_RESOURCES_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    _R.ERROR_REASON_RUN_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    _R.ERROR_REASON_WORKER_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    _R.ERROR_REASON_ATTEMPT_SUPERSEDED: grpc.StatusCode.FAILED_PRECONDITION,
    _R.ERROR_REASON_ATTEMPT_ENDED: grpc.StatusCode.FAILED_PRECONDITION,
    _R.ERROR_REASON_TRANSITION_REFUSED: grpc.StatusCode.FAILED_PRECONDITION,
    _R.ERROR_REASON_REVISION_MISMATCH: grpc.StatusCode.ABORTED,
    _R.ERROR_REASON_REVISION_OUT_OF_RANGE: grpc.StatusCode.OUT_OF_RANGE,
    _R.ERROR_REASON_REQUEST_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _R.ERROR_REASON_STORAGE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    _R.ERROR_REASON_SERVER_DRAINING: grpc.StatusCode.UNAVAILABLE,
    _R.ERROR_REASON_BUG: grpc.StatusCode.INTERNAL,
}


def bug() -> StoreError:
    """An error nobody foresaw; the id is in the log beside the traceback."""
    error_id = secrets.token_hex(8)
    return StoreError(_R.ERROR_REASON_BUG, f"a bug of the server, in its log under {error_id}", error_id=error_id)


def code_of(error: StoreError) -> grpc.StatusCode:
    """The gRPC code of a refusal."""
    return _CODES[error.reason]


async def abort(context: "grpc.aio.ServicerContext[object, object]", error: StoreError) -> NoReturn:
    """End a call with a refusal."""
    code = code_of(error)
    status = status_pb2.Status(code=code.value[0], message=str(error), details=[*_details(error, code)])
    trailing = [(DETAILS_KEY, status.SerializeToString())]
    if code is grpc.StatusCode.UNAVAILABLE:
        trailing.append((_RETRY_KEY, error_details_pb2.RetryInfo(retry_delay=_RETRY_AFTER).SerializeToString()))
    await context.abort(code, str(error), tuple(trailing))


def _details(error: StoreError, code: grpc.StatusCode) -> list[any_pb2.Any]:
    info = error_details_pb2.ErrorInfo(reason=error.reason_name, domain=DOMAIN, metadata=error.metadata)
    details: list[any_pb2.Any] = [any_pb2.Any()]
    details[0].Pack(info)
    if code is grpc.StatusCode.INVALID_ARGUMENT and "field" in error.metadata:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.metadata["field"], description=str(error))
        details.append(any_pb2.Any())
        details[-1].Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if code.value[0] in (code_pb2.UNAVAILABLE, code_pb2.RESOURCE_EXHAUSTED):
        details.append(any_pb2.Any())
        details[-1].Pack(error_details_pb2.RetryInfo(retry_delay=_RETRY_AFTER))
    return details
