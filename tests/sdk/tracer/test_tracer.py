import asyncio
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from agentlightning.emitter import emit_message, emit_reward
from agentlightning.tracer import AgentOpsTracer, AttemptTrace, OtelTracer, Tracer
from agentlightning.tracer.agentops import AgentOpsTracer as FromItsOldPath
from agentlightning.tracer.provider import join_global_provider, processor
from agentlightning.types import Span
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    tracer = Tracer()
    tracer.init_worker(0)
    yield tracer
    tracer.teardown_worker(0)


def names(attempt: AttemptTrace) -> list[str]:
    return [span.attributes.get("agentlightning.message.body", span.name) for span in attempt.spans]


def of_the_user() -> trace.Tracer:
    return trace.get_tracer("user")


def test_other_names_of_the_tracer_are_the_tracer() -> None:
    assert AgentOpsTracer is OtelTracer is FromItsOldPath is Tracer


async def test_the_root_span_says_whose_it_is(tracer: Tracer) -> None:
    async with tracer.trace_context(rollout_id="ro-1", attempt_id="at-1") as attempt:
        pass
    (root,) = attempt.spans
    assert (root.name, root.rollout_id, root.attempt_id) == ("agentlightning.rollout", "ro-1", "at-1")
    assert root.attributes == {"agentlightning.rollout_id": "ro-1", "agentlightning.attempt_id": "at-1"}


async def test_spans_are_numbered_from_the_number_given_parents_first(tracer: Tracer) -> None:
    async with tracer.trace_context(next_sequence_id=7) as attempt:
        with of_the_user().start_as_current_span("parent"), of_the_user().start_as_current_span("child"):
            emit_message("grandchild")
    assert [(span.sequence_id, span.name) for span in attempt.spans] == [
        (7, "agentlightning.rollout"),
        (8, "parent"),
        (9, "child"),
        (10, "agentlightning.message"),
    ]


async def test_spans_are_delivered_as_they_end(tracer: Tracer) -> None:
    delivered: list[Span] = []
    async with tracer.trace_context(deliver=delivered.append):
        with of_the_user().start_as_current_span("parent"):
            emit_message("child")
            assert [span.name for span in delivered] == ["agentlightning.message"]
    assert [span.name for span in delivered] == ["agentlightning.message", "parent", "agentlightning.rollout"]


async def test_the_root_is_a_root_inside_another_span_and_the_other_span_is_current_again_afterwards(tracer) -> None:
    with of_the_user().start_as_current_span("outer") as outer:
        async with tracer.trace_context() as attempt:
            pass
        assert trace.get_current_span() is outer
    assert attempt.spans[0].parent_id is None


async def test_an_attempt_within_an_attempt_has_its_own_spans(tracer: Tracer) -> None:
    async with tracer.trace_context() as outer:
        async with tracer.trace_context() as inner:
            emit_message("inner")
        emit_message("outer")
    assert names(inner) == ["agentlightning.rollout", "inner"]
    assert names(outer) == ["agentlightning.rollout", "outer"]


async def test_an_exception_is_recorded_on_the_root(tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="no room"):
        async with tracer.trace_context() as attempt:
            raise ValueError("no room")
    (root,) = attempt.spans
    assert root.status.status_code == "ERROR"
    assert root.events[0].attributes["exception.message"] == "no room"


@pytest.mark.parametrize("ids", [{"rollout_id": "ro-1"}, {"attempt_id": "at-1"}])
async def test_one_id_without_the_other_is_refused(tracer: Tracer, ids) -> None:
    with pytest.raises(ValueError, match="give rollout_id and attempt_id, or neither"):
        async with tracer.trace_context(**ids):
            pass


async def test_the_last_trace_is_that_of_the_task(tracer: Tracer) -> None:
    async def run(name: str) -> list[str]:
        async with tracer.trace_context(name):
            await asyncio.sleep(0)
        return [span.name for span in tracer.get_last_trace()]

    assert await asyncio.gather(run("a"), run("b")) == [["a"], ["b"]]


def test_before_any_trace_the_last_one_is_empty(tracer: Tracer) -> None:
    assert tracer.get_last_trace() == []


async def test_threads_and_executors_belong_to_the_attempt_that_starts_them(tracer: Tracer) -> None:
    async with tracer.trace_context() as attempt:
        thread = threading.Thread(target=emit_message, args=["thread"])
        thread.start()
        thread.join()
        with ThreadPoolExecutor() as executor:
            executor.submit(emit_message, "executor").result()
        await asyncio.to_thread(emit_message, "to_thread")
    assert names(attempt)[1:] == ["thread", "executor", "to_thread"]


async def test_a_loop_in_a_thread_belongs_to_the_attempt_that_starts_it(tracer: Tracer) -> None:
    async def inner() -> None:
        emit_message("inner")

    async with tracer.trace_context() as attempt:
        thread = threading.Thread(target=lambda: asyncio.run(inner()))
        thread.start()
        thread.join()
    assert names(attempt)[1:] == ["inner"]


async def test_an_executors_thread_does_not_stay_with_the_attempt_that_started_it(tracer: Tracer) -> None:
    with ThreadPoolExecutor(max_workers=1) as executor:
        async with tracer.trace_context() as first:
            executor.submit(emit_message, "first").result()
            await asyncio.get_running_loop().run_in_executor(None, executor.submit, emit_message, "first")
            async with tracer.trace_context() as second:
                executor.submit(emit_message, "second").result()
    assert names(first)[1:] == ["first", "first"]
    assert names(second)[1:] == ["second"]


async def test_fifty_rollouts_of_two_hundred_spans_in_tasks_and_shared_threads_never_mix(tracer: Tracer) -> None:
    def in_thread(step: str) -> None:
        with of_the_user().start_as_current_span(step):
            emit_message(f"{step} child")

    async def in_threads(rollout: str) -> None:
        for number in range(50):
            await asyncio.get_running_loop().run_in_executor(threads, in_thread, f"{rollout} thread {number}")

    async def in_task(rollout: str) -> None:
        for number in range(50):
            with of_the_user().start_as_current_span(f"{rollout} task {number}"):
                await asyncio.sleep(0)
                emit_message(f"{rollout} task {number} child")

    async def run(rollout: str) -> AttemptTrace:
        async with tracer.trace_context(rollout, rollout_id=rollout, attempt_id=rollout) as attempt:
            await asyncio.gather(in_threads(rollout), in_task(rollout))
        return attempt

    rollouts = [f"ro-{number:02}" for number in range(50)]
    with ThreadPoolExecutor(max_workers=8) as threads:
        attempts = await asyncio.gather(*map(run, rollouts))
    for rollout, attempt in zip(rollouts, attempts, strict=True):
        assert [span.sequence_id for span in attempt.spans] == list(range(1, 202))
        assert {span.rollout_id for span in attempt.spans} == {rollout}
        name_of = dict(zip((span.span_id for span in attempt.spans), names(attempt), strict=True))
        children = {name_of[span.span_id]: name_of[span.parent_id] for span in attempt.spans[1:]}
        steps = {f"{rollout} {where} {number}" for where in ("thread", "task") for number in range(50)}
        assert children == {step: rollout for step in steps} | {f"{step} child": step for step in steps}


async def test_a_span_without_identity_is_counted_and_not_guessed(tracer: Tracer) -> None:
    processor.take_unattributed()
    async with tracer.trace_context() as attempt:
        of_the_user().start_span("elsewhere", context=Context()).end()
    of_the_user().start_span("outside").end()
    assert len(attempt.spans) == 1
    assert processor.take_unattributed() == 2


async def test_spans_without_identity_are_reported_when_the_worker_ends(caplog) -> None:
    tracer = Tracer()
    with caplog.at_level("INFO", "agentlightning"):
        tracer.init_worker(3)
        processor.take_unattributed()
        of_the_user().start_span("outside").end()
        tracer.teardown_worker(3)
    assert "[Worker 3] 1 span(s) belonged to no rollout and were not recorded." in caplog.messages


async def test_a_span_that_never_ends_is_counted_and_reported(tracer: Tracer, caplog) -> None:
    async with tracer.trace_context(rollout_id="ro-1", attempt_id="at-1") as attempt:
        late = of_the_user().start_span("late")
    late.end()
    assert (len(attempt.spans), attempt.unfinished) == (1, 1)
    assert "[Rollout ro-1] 1 span(s) never ended." in caplog.messages


async def test_what_is_emitted_after_the_attempt_is_not_recorded(tracer: Tracer) -> None:
    async def later() -> None:
        await ended.wait()
        emit_message("late")

    ended = asyncio.Event()
    async with tracer.trace_context() as attempt:
        task = asyncio.create_task(later())
        await asyncio.sleep(0)
    ended.set()
    await task
    assert len(attempt.spans) == 1


async def test_ids_stay_unique_when_the_agent_seeds_random(tracer: Tracer) -> None:
    async with tracer.trace_context() as attempt:
        for _ in range(3):
            random.seed(0)
            emit_message("hi")
    assert len({span.span_id for span in attempt.spans}) == 4


async def test_no_attribute_is_cut_however_many_there_are(tracer: Tracer) -> None:
    async with tracer.trace_context() as attempt:
        emit_message("hi", {str(number): number for number in range(1000)})
    assert len(attempt.spans[1].attributes) == 1001


async def test_a_provider_that_is_there_is_joined_once_and_not_replaced(monkeypatch) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    join_global_provider()
    join_global_provider()
    async with Tracer().trace_context() as attempt:
        provider.get_tracer("user").start_span("theirs").end()
    assert names(attempt) == ["agentlightning.rollout", "theirs"]


async def test_a_provider_that_samples_everything_away_costs_no_reward(monkeypatch) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    join_global_provider()
    async with Tracer().trace_context() as attempt:
        with provider.get_tracer("user").start_as_current_span("theirs"):
            emit_reward(1)
    assert names(attempt) == ["agentlightning.rollout", "agentlightning.annotation"]


async def test_an_applications_own_spans_go_where_they_went_and_to_the_attempt_and_ours_to_the_attempt_alone(
    monkeypatch,
) -> None:
    exported = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    join_global_provider()
    async with Tracer().trace_context() as attempt:
        with provider.get_tracer("app").start_as_current_span("theirs"):
            emit_message("ours")
    root, theirs, ours = attempt.spans
    assert (theirs.name, theirs.parent_id, ours.parent_id) == ("theirs", root.span_id, theirs.span_id)
    assert [span.name for span in exported.get_finished_spans()] == ["theirs"]


def test_instrumentation_is_undone_with_the_last_worker() -> None:
    before = threading.Thread.start, ThreadPoolExecutor.submit
    first, second = Tracer(), Tracer()
    first.init_worker(0)
    second.init_worker(1)
    first.teardown_worker(0)
    assert (threading.Thread.start, ThreadPoolExecutor.submit) != before
    second.teardown_worker(1)
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == before


def test_the_log_tells_of_setting_up(caplog) -> None:
    with caplog.at_level("INFO", "agentlightning"):
        tracer = Tracer()
        tracer.init_worker(0)
        tracer.teardown_worker(0)
    assert caplog.messages[:2] == ["[Worker 0] Setting up tracer...", "[Worker 0] Instrumentation applied."]


class TakesSpans:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    async def add_many_spans(self, spans: list[Span]) -> list[Span]:
        self.spans += spans
        return spans


async def test_without_a_deliverer_the_spans_go_to_the_workers_store() -> None:
    store, tracer = TakesSpans(), Tracer()
    tracer.init_worker(0, store)
    async with tracer.trace_context(rollout_id="ro-1", attempt_id="at-1") as attempt:
        emit_message("hi")
    tracer.teardown_worker(0)
    assert store.spans == attempt.spans
