import asyncio
from importlib import import_module

import openai
import pytest
from agentlightning.errors import AttemptTimeoutError, MissingResourceError, StoreUnavailableError
from agentlightning.runner.failure import failure_of

httpx = import_module(openai.DefaultHttpxClient.__base__.__module__)  # httpx, or httpx2 with newer releases
REQUEST = httpx.Request("POST", "http://model")


def status_error(cls: type[openai.APIStatusError], status: int) -> openai.APIStatusError:
    return cls("no", response=httpx.Response(status, request=REQUEST), body=None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no"), "agent"),
        (SystemExit(1), "agent"),
        (MissingResourceError("no"), "agent"),
        (status_error(openai.BadRequestError, 400), "agent"),
        (AttemptTimeoutError("late"), "timeout"),
        (ConnectionResetError(), "infrastructure"),
        (TimeoutError(), "infrastructure"),
        (StoreUnavailableError("no"), "infrastructure"),
        (httpx.ConnectTimeout("no"), "infrastructure"),
        (openai.APIConnectionError(request=REQUEST), "infrastructure"),
        (openai.APITimeoutError(REQUEST), "infrastructure"),
        (status_error(openai.RateLimitError, 429), "infrastructure"),
        (status_error(openai.InternalServerError, 500), "infrastructure"),
        (asyncio.CancelledError(), "infrastructure"),
        (KeyboardInterrupt(), "infrastructure"),
    ],
)
def test_who_is_to_blame(error, kind) -> None:
    assert failure_of(error).kind == kind


def test_a_failure_tells_type_message_and_where() -> None:
    try:
        raise ValueError("no room")
    except ValueError as error:
        failure = failure_of(error)
    assert (failure.type, failure.message) == ("ValueError", "no room")
    assert 'raise ValueError("no room")' in failure.stack_trace


def test_a_class_is_named_with_its_module() -> None:
    assert failure_of(AttemptTimeoutError()).type == "agentlightning.errors.AttemptTimeoutError"


def test_a_runner_that_was_stopped_is_named() -> None:
    assert failure_of(asyncio.CancelledError()).type == "RunnerStopped"


def test_the_end_of_a_long_stack_trace_is_kept() -> None:
    failure = failure_of(ValueError("x" * 100_000 + "end"))
    assert failure.stack_trace.endswith("end\n")
    assert len(failure.stack_trace) + len(failure.message) <= 32_000
