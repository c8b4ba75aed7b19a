"""OpenTelemetry's instrumentors, played by one that is installed for the test: a folder with its metadata."""

import functools
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.testing import ChatReply, OpenAIServer
from agentlightning.tracer.patching import patch
from agentlightning.types import Span
from openai import BadRequestError, DefaultHttpxClient, OpenAI
from openai.resources.chat.completions import Completions
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer

HELLO: Any = [{"role": "user", "content": "Hello?"}]


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the instrumentors `google-genai`, `web`, `broken` and `refusing`, all installed, have been told."""
    (tmp_path / "other_people.py").write_text(
        textwrap.dedent("""
        class Instrumentor:
            is_instrumented_by_opentelemetry = False
            told = []

            def instrument(self, tracer_provider):
                type(self).is_instrumented_by_opentelemetry = True
                self.told.append("instrument")

            def uninstrument(self):
                type(self).is_instrumented_by_opentelemetry = False
                self.told.append("uninstrument")

        class Broken(Instrumentor):
            def instrument(self, tracer_provider):
                raise TypeError("made for another version")

        class Refusing(Instrumentor):
            def instrument(self, tracer_provider):
                self.told.append("refuse")
        """)
    )
    metadata = tmp_path / "other_people-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-people\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[opentelemetry_instrumentor]\n"
        "google-genai = other_people:Instrumentor\nweb = other_people:Instrumentor\nbroken = other_people:Broken\n"
        "refusing = other_people:Refusing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "other_people", raising=False)
    from other_people import Instrumentor  # type: ignore[import-not-found]

    told: list[str] = Instrumentor.told
    return told


@contextmanager
def working(tracer: agl.Tracer) -> Iterator[agl.Tracer]:
    tracer.init_worker(0)
    try:
        yield tracer
    finally:
        tracer.teardown_worker(0)


def test_one_asked_for_by_name_is_enabled_while_a_worker_runs(installed: list[str]) -> None:
    with working(agl.Tracer(instrumentors=["web"])):
        assert installed == ["instrument"]
    assert installed == ["instrument", "uninstrument"]


def test_it_stays_until_the_last_worker_is_gone(installed: list[str]) -> None:
    with working(agl.Tracer(instrumentors=["web"])), working(agl.Tracer(instrumentors=["web"])):
        pass
    assert installed == ["instrument", "uninstrument"]


def test_that_of_a_models_client_is_enabled_by_default_where_the_program_uses_it(
    installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.genai", ModuleType("google.genai"))
    with working(agl.Tracer()):
        assert installed == ["instrument"]


def test_and_not_where_it_does_not(installed: list[str]) -> None:
    with working(agl.Tracer()):
        assert installed == []


def test_an_empty_list_enables_none(installed: list[str]) -> None:
    with working(agl.Tracer(instrumentors=[])):
        assert installed == []


def test_a_name_may_be_written_with_a_dash_or_an_underscore(installed: list[str]) -> None:
    with working(agl.Tracer(instrumentors=["google_genai"])):
        assert installed == ["instrument"]


def test_a_name_that_is_not_installed_is_refused_with_those_that_are() -> None:
    with pytest.raises(agl.InstrumentationError, match=r"'wbe', which is not installed; installed are: .*\bweb\b"):
        agl.Tracer(instrumentors=["wbe"])


def test_one_that_the_program_enabled_itself_is_left_alone(installed: list[str]) -> None:
    from other_people import Instrumentor

    Instrumentor().instrument(tracer_provider=None)
    with working(agl.Tracer(instrumentors=["web"])):
        pass
    assert installed == ["instrument"]


def test_one_that_does_not_start_is_not_stopped(installed: list[str]) -> None:
    with working(agl.Tracer(instrumentors=["refusing"])):
        pass
    assert installed == ["refuse"]


def test_one_that_fails_is_left_out_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    with working(agl.Tracer(instrumentors=["broken"])):
        pass
    assert "instrumentor 'broken' (other_people:Broken) is left out: TypeError: made for another version" in caplog.text


Seeing = Callable[[Callable[..., Any]], Callable[..., Any]]


def of_others() -> Tracer:
    return trace.get_tracer("somebody")


def around(method: Callable[..., Any]) -> Callable[..., Any]:
    """As most do: the call lies inside their span."""

    def call(*args: Any, **request: Any) -> Any:
        with of_others().start_as_current_span(
            "chat m", kind=SpanKind.CLIENT, attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
        ):
            of_others().start_span("their own part").end()
            return method(*args, **request)

    return call


def beside(method: Callable[..., Any]) -> Callable[..., Any]:
    """As callbacks do: their span is current nowhere."""

    def call(*args: Any, **request: Any) -> Any:
        span = of_others().start_span("m.chat", attributes={"llm.request.type": "chat", "gen_ai.request.model": "m"})
        try:
            response = method(*args, **request)
            span.set_attribute("gen_ai.response.id", response.id)
            return response
        except Exception as error:
            span.set_status(trace.StatusCode.ERROR, str(error))
            raise
        finally:
            span.end()

    return call


def reply(request: Any) -> ChatReply:
    if "fail" in str(request.messages):
        raise ValueError("no such date")
    return ChatReply("It is blue.", [("look", {})] if request.tools else [])


def inside(_: Any) -> None:
    """As those do that wrap what a client calls: their span lies inside ours."""
    around(lambda: None)()


async def recorded(seeing: Callable[..., Any], *, messages: Any = HELLO, **request: Any) -> list[Span]:
    """The spans of one call that the tracer and another instrumentor see."""
    tracer = agl.Tracer(instrumentors=[])
    http_client = DefaultHttpxClient(event_hooks={"request": [inside]} if seeing is inside else {})
    with (
        OpenAIServer(reply) as server,
        OpenAI(api_key="any", base_url=server.base_url, max_retries=0, http_client=http_client) as client,
        working(tracer),
    ):
        restore = patch(Completions, "create", seeing) if seeing is not inside else lambda: None
        async with tracer.trace_context() as attempt:
            with of_others().start_as_current_span("agent"), suppress(BadRequestError):
                client.chat.completions.create(model="m", messages=messages, **request)
        restore()
    return attempt.spans[1:]


LOOK: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("seeing", [around, beside, inside])
async def test_a_call_that_another_sees_too_is_one_span_of_ours(seeing: Seeing) -> None:
    spans = await recorded(seeing)
    assert [span.name for span in spans if span.name != "their own part"] == ["agent", "openai.chat.completion"]


@pytest.mark.parametrize("seeing", [around, beside, inside])
async def test_ours_stands_where_theirs_did(seeing: Seeing) -> None:
    spans = await recorded(seeing, tools=[LOOK])
    agent, call, tool = (span for span in spans if span.name != "their own part")
    assert (call.parent_id, tool.parent_id) == (agent.span_id, call.span_id)
    assert call.parent and call.parent.span_id == agent.span_id


@pytest.mark.parametrize("seeing", [around, beside, inside])
async def test_a_call_that_fails_is_one_span_too(seeing: Seeing) -> None:
    spans = await recorded(seeing, messages=[{"role": "user", "content": "fail"}])
    assert [span.name for span in spans if span.name != "their own part"] == ["agent", "openai.chat.completion"]


async def test_what_another_makes_inside_a_call_of_ours_hangs_on_ours() -> None:
    _, call, part = await recorded(inside)
    assert (part.name, part.parent_id) == ("their own part", call.span_id)


async def test_a_call_that_only_another_sees_is_kept() -> None:
    tracer = agl.Tracer(instrumentors=[])
    with working(tracer):
        async with tracer.trace_context() as attempt:
            around(lambda: None)()
    assert [span.name for span in attempt.spans[1:]] == ["chat m", "their own part"]


async def test_a_method_that_somebody_wrapped_and_left_so_is_not_recorded_twice() -> None:
    class Asking:
        def ask(self) -> None:
            asked.append("theirs")

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> None:
            asked.append("ours")
            method(*args)

        return call

    asked: list[str] = []
    restore = patch(Asking, "ask", wrap)
    Asking.ask = functools.wraps(Asking.ask)(functools.partial(Asking.ask))  # type: ignore[method-assign]
    restore()
    patch(Asking, "ask", wrap)
    Asking.ask(Asking())
    assert asked == ["ours", "theirs"]
