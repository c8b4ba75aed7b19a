import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from agentlightning import LightningStoreClient
from agentlightning.emitter import emit_message, operation
from agentlightning.runner import LitAgentRunner
from agentlightning.tracer import Tracer
from agentlightning.types import LLM, Span
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel

PREFIX = "agentlightning.operation"


class Answer(BaseModel):
    id: str
    rooms: list[str]


@dataclass
class Wish:
    seats: int


@operation
def find_rooms(wish: Wish, *others: str, limit: int = 3, **more: Any) -> Answer:
    emit_message("searching")
    return Answer(id="a-1", rooms=["Lyra", *others][:limit])


@operation(name="ask", model="small")
async def ask_model(question: str) -> str:
    await asyncio.sleep(0)
    emit_message(question)
    return question.upper()


class Booker:
    @operation
    def book(self, room: str) -> bool:
        return True

    @classmethod
    @operation
    def open(cls, city: str) -> str:
        return city

    @staticmethod
    @operation
    def clean(room: str) -> str:
        return room


async def recorded(work: Any) -> list[Span]:
    """The operations of a rollout that does this work."""
    async with Tracer().trace_context() as attempt:
        with suppress(ArithmeticError):
            result = work()
            if asyncio.iscoroutine(result):
                await result
    return [span for span in attempt.spans if span.name == PREFIX]


def told(span: Span) -> dict[str, Any]:
    return {key.removeprefix(f"{PREFIX}."): value for key, value in span.attributes.items()}


async def test_a_call_of_a_decorated_function_is_recorded_with_what_went_in_and_came_out() -> None:
    [span] = await recorded(lambda: find_rooms(Wish(4), "Vega", city="Kyoto"))
    assert told(span) == {
        "name": "find_rooms",
        "input.wish.seats": 4,
        "input.others.0": "Vega",
        "input.limit": 3,
        "input.more.city": "Kyoto",
        "output.id": "a-1",
        "output.rooms": ["Lyra", "Vega"],
    }
    assert span.status.status_code == "OK"


async def test_a_decorated_async_function_stays_one_and_is_recorded() -> None:
    assert inspect.iscoroutinefunction(ask_model)
    [span] = await recorded(lambda: ask_model("why?"))
    assert told(span) == {"name": "ask", "model": "small", "input.question": "why?", "output": "WHY?"}


@pytest.mark.parametrize("call", [lambda: Booker().book("Lyra"), lambda: Booker.clean("Lyra")])
async def test_a_method_is_recorded_without_its_object(call) -> None:
    [span] = await recorded(call)
    assert {key: value for key, value in told(span).items() if key.startswith("input")} == {"input.room": "Lyra"}


async def test_a_class_method_is_recorded_without_its_class() -> None:
    [span] = await recorded(lambda: Booker.open("Kyoto"))
    assert told(span) == {"name": "open", "input.city": "Kyoto", "output": "Kyoto"}


async def test_what_is_recorded_inside_is_its_child() -> None:
    async with Tracer().trace_context() as attempt:
        with operation(name="outer"):
            await ask_model("why?")
        emit_message("after")
    root, outer, inner, message, after = attempt.spans
    assert [span.parent_id for span in (outer, inner, message, after)] == [
        root.span_id,
        outer.span_id,
        inner.span_id,
        root.span_id,
    ]


async def test_operations_of_rollouts_that_run_at_once_stay_apart() -> None:
    async def rollout(number: int) -> list[str]:
        async with Tracer().trace_context() as attempt:
            await asyncio.gather(*[ask_model(f"{number}") for _ in range(3)])
        return [span.attributes[f"{PREFIX}.input.question"] for span in attempt.spans if span.name == PREFIX]

    questions = await asyncio.gather(*[rollout(number) for number in range(5)])
    assert questions == [[f"{number}"] * 3 for number in range(5)]


async def test_an_exception_is_recorded_and_raised() -> None:
    @operation
    def divide(number: int) -> float:
        return number / 0

    async with Tracer().trace_context() as attempt:
        with pytest.raises(ZeroDivisionError):
            divide(1)
    span = attempt.spans[1]
    assert (span.status.status_code, span.status.description) == ("ERROR", "ZeroDivisionError: division by zero")
    assert [event.attributes["exception.type"] for event in span.events] == ["ZeroDivisionError"]
    assert told(span) == {"name": "divide", "input.number": 1}


async def test_a_cancelled_operation_is_recorded_as_an_error() -> None:
    begun = asyncio.Event()

    @operation
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with Tracer().trace_context() as attempt:
        task = asyncio.create_task(wait())
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert attempt.spans[1].status.description == "CancelledError: "


async def test_a_block_is_an_operation_whose_input_and_output_are_told() -> None:
    async with Tracer().trace_context() as attempt:
        with operation(name="search", judge={"model": "m"}) as search:
            search.set_input("rooms", seats=4, self="me")
            search.set_output(Wish(4))
    fields, span = search.span(), attempt.spans[1]
    assert told(span) == {
        "judge.model": "m",
        "name": "search",
        "input.args.0": "rooms",
        "input.seats": 4,
        "input.self": "me",
        "output.seats": 4,
    }
    assert (fields.name, fields.attributes, fields.status) == (span.name, span.attributes, span.status)
    assert (fields.start_time, fields.end_time) == (span.start_time, span.end_time)


def test_outside_of_a_rollout_an_operation_works_and_is_not_recorded(caplog) -> None:
    with caplog.at_level("DEBUG", "agentlightning"):
        assert find_rooms(Wish(4)).rooms == ["Lyra"]
    assert "agentlightning.operation is not recorded: no rollout is in progress here" in caplog.text


def test_outside_of_a_rollout_the_current_span_of_the_application_stays_so() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    with tracer.start_as_current_span("request") as span, operation(name="search"):
        assert trace.get_current_span() is span


async def test_an_operation_that_is_not_propagated_is_built_alone() -> None:
    async with Tracer().trace_context() as attempt:
        with operation(name="search", propagate=False) as search:
            emit_message("hi")
    root, message = attempt.spans
    assert message.parent_id == root.span_id
    assert search.span().attributes == {f"{PREFIX}.name": "search"}


async def test_arguments_that_do_not_fit_are_recorded_as_they_are() -> None:
    async with Tracer().trace_context() as attempt:
        with pytest.raises(TypeError, match="unexpected keyword"):
            ask_model_sync(1, colour="red")
    assert told(attempt.spans[1]) == {"name": "ask_model_sync", "input.args.0": 1, "input.colour": "red"}


@operation
def ask_model_sync(question: Any) -> Any:
    return question


async def test_an_iterator_that_goes_in_or_comes_out_is_not_used_up() -> None:
    rooms = (room for room in ["Lyra", "Vega"])
    async with Tracer().trace_context():
        assert list(ask_model_sync(rooms)) == ["Lyra", "Vega"]


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_what_cannot_be_recorded_does_not_stop_the_work() -> None:
    ring: dict[str, Any] = {}
    ring["ring"] = ring
    for value in (ring, Unshown(), float("nan"), "half \ud83d", {1: {None: 2}}):
        assert ask_model_sync(value) is value


async def test_whatever_it_is_given_an_operation_reaches_the_store(store: LightningStoreClient) -> None:
    given = {"loss": float("nan"), "text": "half \ud83d", "big": 2**70, "rooms": {"Lyra"}, "all": [1, 0.5], "no": None}

    def agent(task: str) -> None:
        ask_model_sync(given)

    queued = await store.enqueue_rollout("task")
    runner = LitAgentRunner[str](max_rollouts=1)
    with runner.run_context(agent=agent, store=store):
        await runner.iter()
    root, span = await store.query_spans(queued.rollout_id)
    assert span.parent_id == root.span_id
    assert {key: told(span)[f"output.{key}"] for key in given} == {
        "loss": "nan",
        "text": "half ?",
        "big": str(2**70),
        "rooms": ["Lyra"],
        "all": [1.0, 0.5],
        "no": "null",
    }


async def test_an_api_key_is_not_recorded() -> None:
    [span] = await recorded(lambda: ask_model_sync(LLM(endpoint="http://here", model="m", api_key="secret")))
    assert span.attributes[f"{PREFIX}.input.question.model"] == "m"
    assert "secret" not in str(span.attributes)


async def test_a_callable_without_a_name_or_a_signature_can_be_decorated() -> None:
    [span] = await recorded(lambda: operation(functools.partial(ask_model_sync.__wrapped__, question=1))())
    assert told(span)["name"] == "partial"
    [span] = await recorded(lambda: operation(max)(1, 2))
    assert told(span) == {"name": "max", "input.args.0": 1, "input.args.1": 2, "output": 2}


def test_the_input_of_an_operation_is_told_inside_its_block_and_its_span_read_after_it() -> None:
    search = operation(name="search")
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        search.set_input(1)
    with search, pytest.raises(RuntimeError, match="ready when its `with` block has ended"):
        search.span()
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        search.set_output(1)
    with pytest.raises(RuntimeError, match="entered once"), search:
        pass


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
def test_a_generator_is_refused(function) -> None:
    with pytest.raises(TypeError, match="write `with operation"):
        operation(function)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("search", "a name is given as name="),
        (staticmethod(find_rooms), "write @operation below @staticmethod"),
        (classmethod(find_rooms), "write @operation below @classmethod"),
    ],
)
def test_what_is_no_function_is_refused(given, said) -> None:
    with pytest.raises(ValueError, match=said):
        operation(given)


def test_two_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two names: name='a' and agentlightning\.operation\.name='b'"):
        operation(name="a", **{"agentlightning.operation.name": "b"})


def test_an_attribute_that_is_not_finite_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"the attribute 'judge\.weight' is inf"):
        operation(judge={"weight": float("inf")})
