"""The OpenTelemetry context in threads, which do not take it along by themselves. Knows threads and executors alone."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Thread
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from agentlightning.tracer.patching import patch


def carry_context() -> list[Callable[[], None]]:
    """Run threads in the context they were started in, and calls of executors in the one they were submitted in.

    Returns:
        What undoes it.
    """
    return [patch(Thread, "start", _starting), patch(ThreadPoolExecutor, "submit", _submitting)]


def _starting(start: Callable[..., Any]) -> Callable[..., Any]:
    def start_in_context(thread: Thread) -> None:
        run, context = thread.run, otel_context.get_current()
        if context:
            thread.run = lambda: _run(context, run)  # type: ignore[method-assign]
        start(thread)

    return start_in_context


def _submitting(submit: Callable[..., Any]) -> Callable[..., Any]:
    def submit_in_context(executor: ThreadPoolExecutor, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        # Even an empty context: the executor's thread may have been started within another rollout.
        return submit(executor, _run, otel_context.get_current(), call, *args, **kwargs)

    return submit_in_context


def _run(context: Context, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    with _attached(context):
        return call(*args, **kwargs)


@contextmanager
def _attached(context: Context) -> Iterator[None]:
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)
