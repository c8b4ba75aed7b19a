import asyncio
import os
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agentlightning import LightningStoreClient
from agentlightning.emitter import emit_message, emit_reward, find_final_reward
from agentlightning.errors import AgentError, InvalidRequestError, MissingResourceError, StoreUnavailableError
from agentlightning.litagent import LitAgent, rollout
from agentlightning.runner import LitAgentRunner
from agentlightning.tracer import AgentOpsTracer
from agentlightning.types import EnqueueRolloutRequest, PromptTemplate, RolloutConfig


async def run_one(store: LightningStoreClient, agent: Any, task: Any = "task", **options: Any) -> Any:
    """Enqueue one task, let a runner run one rollout, and read what became of it."""
    queued = await store.enqueue_rollout(task, **options)
    runner = LitAgentRunner[Any](max_rollouts=1)
    with runner.run_context(agent=agent, store=store, worker_id=0):
        await runner.iter()
    return await store.get_rollout_by_id(queued.rollout_id)


@asynccontextmanager
async def running(store: LightningStoreClient, agent: Any, **options: Any) -> AsyncIterator["asyncio.Task[None]"]:
    """A runner at work beside the test, cancelled at the end."""
    runner = LitAgentRunner[Any](**options)
    with runner.run_context(agent=agent, store=store):
        task = asyncio.create_task(runner.iter())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Counting:
    """A store that counts the calls of each method."""

    def __init__(self, store: LightningStoreClient) -> None:
        self.calls: Counter[str] = Counter()
        self._store = store

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._store, name)


async def test_a_bare_function_is_run_with_the_prompt_of_its_rollout(store: LightningStoreClient) -> None:
    def simple_agent(task: str, prompt_template: PromptTemplate) -> float:
        return float(prompt_template.format(any_question=task) == "Help. Why?")

    resources = await store.add_resources(resources={"prompt_template": "Help. {any_question}"})
    queued = await store.enqueue_rollout(input="Why?", resources_id=resources.resources_id)
    runner = LitAgentRunner[str](AgentOpsTracer(), max_rollouts=1)
    with runner.run_context(agent=simple_agent, store=store):
        await runner.iter()
    (finished,) = await store.wait_for_rollouts([queued.rollout_id])
    spans = await store.query_spans(queued.rollout_id)
    assert finished.status == "succeeded"
    assert find_final_reward(spans) == 1.0
    assert [(span.sequence_id, span.name) for span in spans] == [
        (1, "agentlightning.rollout"),
        (2, "agentlightning.annotation"),
    ]


async def test_the_reward_of_an_attempt_is_known_to_the_store(store: LightningStoreClient) -> None:
    assert (await run_one(store, lambda task: {"score": 0.5, "speed": 2})).attempt.final_reward == 0.5


async def test_a_short_attempt_takes_two_calls_of_the_store(store: LightningStoreClient) -> None:
    counting = Counting(store)
    await store.enqueue_rollout("task")
    runner = LitAgentRunner[str](max_rollouts=1)
    with runner.run_context(agent=lambda task: 1.0, store=counting):  # type: ignore[arg-type]
        await runner.iter()
    assert counting.calls == {"dequeue_rollout": 1, "complete_attempt": 1}


async def test_spans_arrive_while_the_attempt_runs(store: LightningStoreClient) -> None:
    seen, may_end = asyncio.Event(), asyncio.Event()

    async def agent(task: str) -> None:
        emit_message("early")
        await may_end.wait()

    class Noticing(Counting):
        async def add_many_spans(self, spans: Any) -> Any:
            stored = await store.add_many_spans(spans)
            loop.call_soon_threadsafe(seen.set)
            return stored

    loop = asyncio.get_running_loop()
    queued = await store.enqueue_rollout("task")
    async with running(Noticing(store), agent, max_rollouts=1):  # type: ignore[arg-type]
        await asyncio.wait_for(seen.wait(), 5)
        assert [span.name for span in await store.query_spans(queued.rollout_id)] == ["agentlightning.message"]
        may_end.set()
        await store.wait_for_rollouts([queued.rollout_id])
    names = [span.name for span in await store.query_spans(queued.rollout_id)]
    assert names == ["agentlightning.rollout", "agentlightning.message"]


async def test_spans_arrive_while_an_async_agent_blocks_its_loop(store: LightningStoreClient) -> None:
    arrived = threading.Event()

    async def agent(task: str) -> float:
        emit_message("early")
        return arrived.wait(5)

    class Noticing(Counting):
        async def add_many_spans(self, spans: Any) -> Any:
            stored = await store.add_many_spans(spans)
            arrived.set()
            return stored

    finished = await run_one(Noticing(store), agent)  # type: ignore[arg-type]
    assert finished.attempt.final_reward == 1.0


async def test_spans_that_the_store_refuses_are_counted_on_the_attempt(store: LightningStoreClient) -> None:
    class Refusing(Counting):
        async def complete_attempt(self, *ids: Any, spans: Any = (), **outcome: Any) -> Any:
            if spans:
                raise InvalidRequestError("no spans today")
            return await store.complete_attempt(*ids, **outcome)

    finished = await run_one(Refusing(store), lambda task: 1.0)  # type: ignore[arg-type]
    assert (finished.status, finished.attempt.lost_span_count) == ("succeeded", 2)


async def test_an_outcome_that_cannot_be_reported_does_not_end_the_runner(store: LightningStoreClient, caplog) -> None:
    class Away(Counting):
        async def complete_attempt(self, *ids: Any, **outcome: Any) -> Any:
            raise StoreUnavailableError("away")

    await run_one(Away(store), lambda task: 1.0)  # type: ignore[arg-type]
    assert "was not reported: away" in caplog.text


async def test_a_runner_whose_store_is_gone_says_so(store: LightningStoreClient) -> None:
    class Gone(Counting):
        async def dequeue_rollout(self, *_: Any, **options: Any) -> Any:
            raise StoreUnavailableError("gone")

    with pytest.raises(StoreUnavailableError, match="gone"):
        await run_one(Gone(store), lambda task: 1.0)  # type: ignore[arg-type]


async def test_many_rollouts_run_at_once_and_keep_their_spans_apart(store: LightningStoreClient) -> None:
    everyone = asyncio.Barrier(20)

    async def agent(task: str, rollout: Any) -> None:
        await everyone.wait()
        await asyncio.to_thread(emit_message, rollout.rollout_id)
        emit_reward(1)

    queued = await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=number) for number in range(20)])
    ids = [rollout.rollout_id for rollout in queued]
    async with running(store, agent, max_concurrency=20):
        assert len(await store.wait_for_rollouts(ids, timeout=20)) == 20
    for rollout_id in ids:
        spans = await store.query_spans(rollout_id)
        assert [span.sequence_id for span in spans] == [1, 2, 3]
        assert spans[1].attributes["agentlightning.message.body"] == rollout_id


async def test_blocking_agents_run_at_once(store: LightningStoreClient) -> None:
    everyone = threading.Barrier(4)
    queued = await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=number) for number in range(4)])
    async with running(store, lambda task: everyone.wait(5) and None, max_concurrency=4):
        finished = await store.wait_for_rollouts([rollout.rollout_id for rollout in queued], timeout=20)
    assert [rollout.status for rollout in finished] == ["succeeded"] * 4


def no_room(task: str) -> float:
    raise ValueError("no room")


async def test_an_exception_fails_the_attempt_and_says_why(store: LightningStoreClient) -> None:
    failed = await run_one(store, no_room)
    failure = failed.attempt.failure
    assert (failed.status, failure.kind, str(failure)) == ("failed", "agent", "ValueError: no room")
    assert "no_room" in failure.stack_trace
    (root,) = await store.query_spans(failed.rollout_id)
    assert (root.status.status_code, root.events[0].attributes["exception.message"]) == ("ERROR", "no room")


async def test_sys_exit_fails_the_attempt_and_not_the_runner(store: LightningStoreClient) -> None:
    async def agent(task: str) -> None:
        raise SystemExit(0)

    assert (await run_one(store, agent)).status == "failed"


async def test_a_failure_of_the_network_is_delivered_again(store: LightningStoreClient) -> None:
    def agent(task: str, rollout: Any) -> float:
        if rollout.attempt.sequence_id == 1:
            raise ConnectionResetError("away")
        return 1.0

    queued = await store.enqueue_rollout("task")
    async with running(store, agent):
        (finished,) = await store.wait_for_rollouts([queued.rollout_id], timeout=20)
    first, _ = await store.query_attempts(queued.rollout_id)
    assert (finished.status, first.failure.kind) == ("succeeded", "infrastructure")


async def test_a_missing_resource_fails_the_attempt_and_is_named(store: LightningStoreClient) -> None:
    resources = await store.add_resources({"prompt_template": "x"})
    failed = await run_one(store, lambda task, llm: 1.0, resources_id=resources.resources_id)
    assert failed.status == "failed"
    assert "asks for the resource 'llm'; the rollout has 'prompt_template'" in failed.attempt.failure.message


async def test_a_value_that_is_no_result_fails_the_attempt(store: LightningStoreClient) -> None:
    failed = await run_one(store, lambda task: "good")
    assert (failed.status, failed.attempt.failure.type) == ("failed", "agentlightning.errors.AgentError")
    assert "'good' (str)" in failed.attempt.failure.message


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_agent_that_takes_too_long_times_out(store: LightningStoreClient, is_async: bool) -> None:
    release = threading.Event()

    async def slow(task: str) -> None:
        await asyncio.get_running_loop().create_future()

    def blocking(task: str) -> None:
        release.wait()

    agent = slow if is_async else blocking
    timed_out = await run_one(store, agent, config=RolloutConfig(timeout_seconds=0.2))
    release.set()
    (finished,) = await store.wait_for_rollouts([timed_out.rollout_id], timeout=5)
    attempt = await store.get_latest_attempt(finished.rollout_id)
    assert (finished.status, attempt.status, attempt.failure.kind) == ("failed", "timeout", "timeout")


async def test_a_cancelled_rollout_cancels_its_agent(store: LightningStoreClient) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def agent(task: str) -> None:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    counting = Counting(store)
    queued = await store.enqueue_rollout("task")
    async with running(counting, agent, max_rollouts=1):  # type: ignore[arg-type]
        await began.wait()
        await store.cancel_rollouts([queued.rollout_id])
        await asyncio.wait_for(cancelled.wait(), 10)  # long before the first heartbeat
    attempt = await store.get_latest_attempt(queued.rollout_id)
    assert attempt.status == "cancelled"
    assert counting.calls["complete_attempt"] == 0


async def test_an_outcome_that_comes_too_late_changes_nothing_and_leaves_its_spans(store: LightningStoreClient) -> None:
    async def agent(task: str, rollout: Any) -> float:
        await store.cancel_rollouts([rollout.rollout_id])
        return 1.0

    class Deaf(Counting):
        async def dequeue_rollout(self, *args: Any, on_lost: Any, **options: Any) -> Any:
            return await store.dequeue_rollout(*args, **options)

    queued = await store.enqueue_rollout("task")
    async with running(Deaf(store), agent, max_rollouts=1) as runner:  # type: ignore[arg-type]
        await runner
    cancelled = await store.get_rollout_by_id(queued.rollout_id)
    assert cancelled.status == "cancelled"
    assert find_final_reward(await store.query_spans(cancelled.rollout_id)) == 1.0


async def test_an_agent_that_ignores_being_stopped_has_not_succeeded(store: LightningStoreClient) -> None:
    began = asyncio.Event()

    async def agent(task: str) -> float:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return 1.0

    queued = await store.enqueue_rollout("task")
    async with running(store, agent):
        await began.wait()
    attempt = await store.get_latest_attempt(queued.rollout_id)
    assert (attempt.status, attempt.failure.type, attempt.final_reward) == ("failed", "RunnerStopped", None)


async def test_a_stopped_runner_gives_its_rollout_back(store: LightningStoreClient) -> None:
    began = asyncio.Event()

    async def agent(task: str) -> None:
        began.set()
        await asyncio.get_running_loop().create_future()

    queued = await store.enqueue_rollout("task")
    async with running(store, agent):
        await began.wait()
    first = await store.get_latest_attempt(queued.rollout_id)
    again = await store.dequeue_rollout()
    assert (first.status, first.failure.type) == ("failed", "RunnerStopped")
    assert again.rollout_id == queued.rollout_id


async def test_an_outcome_is_reported_though_the_runner_is_stopped_meanwhile(store: LightningStoreClient) -> None:
    class Stopping(Counting):
        async def complete_attempt(self, *ids: Any, **outcome: Any) -> Any:
            runner.cancel()
            await asyncio.sleep(0)
            return await store.complete_attempt(*ids, **outcome)

    queued = await store.enqueue_rollout("task")
    async with running(Stopping(store), lambda task: 1.0) as runner:  # type: ignore[arg-type]
        await asyncio.wait([runner])
    assert (runner.cancelled(), (await store.get_rollout_by_id(queued.rollout_id)).status) == (True, "succeeded")


class Asked:
    """An event that can only be asked."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set


@pytest.mark.parametrize("kind", [asyncio.Event, threading.Event, Asked])
async def test_an_event_ends_an_idle_runner_promptly(store: LightningStoreClient, kind) -> None:
    event = kind()
    runner = LitAgentRunner[str]()
    with runner.run_context(agent=lambda task: 1.0, store=store):
        task = asyncio.create_task(runner.iter(event=event))
        await asyncio.sleep(0)
        event.set()
        await asyncio.wait_for(task, 3)


async def test_an_event_lets_the_rollout_in_progress_finish(store: LightningStoreClient) -> None:
    event = asyncio.Event()

    async def agent(task: str) -> float:
        event.set()
        await asyncio.sleep(0)
        return 1.0

    first, second = await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=0), EnqueueRolloutRequest(input=1)])
    runner = LitAgentRunner[str]()
    with runner.run_context(agent=agent, store=store):
        await runner.iter(event=event)
    assert (await store.get_rollout_by_id(first.rollout_id)).status == "succeeded"
    assert (await store.get_rollout_by_id(second.rollout_id)).status == "queuing"


@pytest.mark.parametrize("kind", [asyncio.Event, Asked])
async def test_a_rollout_that_is_claimed_as_the_runner_is_told_to_stop_is_given_back(
    store: LightningStoreClient, kind
) -> None:
    event = kind()

    class Stopping(Counting):
        async def dequeue_rollout(self, *args: Any, **options: Any) -> Any:
            claimed = await store.dequeue_rollout(*args, **options)
            event.set()
            return claimed

    queued = await store.enqueue_rollout("task")
    runner = LitAgentRunner[str]()
    with runner.run_context(agent=lambda task: 1.0, store=Stopping(store)):  # type: ignore[arg-type]
        await runner.iter(event=event)
    await is_given_back(store, queued.rollout_id)


async def test_a_rollout_that_is_claimed_as_the_runner_is_cancelled_is_given_back(store: LightningStoreClient) -> None:
    class Cancelling(Counting):
        async def dequeue_rollout(self, *args: Any, **options: Any) -> Any:
            claimed = await store.dequeue_rollout(*args, **options)
            runner.cancel()
            return claimed

    queued = await store.enqueue_rollout("task")
    async with running(Cancelling(store), lambda task: 1.0) as runner:  # type: ignore[arg-type]
        await asyncio.wait([runner])
    await is_given_back(store, queued.rollout_id)


async def is_given_back(store: LightningStoreClient, rollout_id: str) -> None:
    """Its one attempt was not begun, and the next worker gets it at once."""
    again = await store.dequeue_rollout(wait_seconds=5)
    assert again is not None
    assert (again.rollout_id, again.attempt.sequence_id) == (rollout_id, 2)
    first, _ = await store.query_attempts(rollout_id)
    assert first.status == "cancelled"
    await store.complete_attempt(rollout_id, again.attempt.attempt_id)


@pytest.mark.parametrize("max_concurrency", [1, 3])
async def test_a_runner_ends_after_max_rollouts(store: LightningStoreClient, max_concurrency: int) -> None:
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=number) for number in range(7)])
    runner = LitAgentRunner[str](max_rollouts=5, max_concurrency=max_concurrency)
    with runner.run_context(agent=lambda task: 1.0, store=store):
        await runner.iter()
    rollouts = await store.query_rollouts()
    queued = [rollout for rollout in rollouts if rollout.status == "queuing" and rollout.queue == store.queue]
    assert len(queued) == 2


def test_a_runner_that_could_run_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_concurrency is 0, expected at least 1"):
        LitAgentRunner[str](max_concurrency=0)


def test_intervals_that_existing_code_passes_are_taken_and_said_to_have_no_effect(caplog) -> None:
    LitAgentRunner[str](AgentOpsTracer(), max_rollouts=1, poll_interval=5.0, heartbeat_interval=10.0)
    assert "poll_interval and heartbeat_interval have no effect" in caplog.text


async def test_a_step_runs_one_task_with_the_resources_given(store: LightningStoreClient) -> None:
    @rollout
    async def agent(task: int, prompt_template: PromptTemplate) -> float:
        return task if prompt_template.template == "mine" else -1

    runner = LitAgentRunner[int]()
    with runner.run_context(agent=agent, store=store):
        finished = await runner.step(7, resources={"prompt_template": "mine"})
    assert (finished.status, finished.input) == ("succeeded", 7)
    assert find_final_reward(await store.query_spans(finished.rollout_id)) == 7


async def test_steps_run_at_once(store: LightningStoreClient) -> None:
    everyone = asyncio.Barrier(3)

    async def agent(task: int) -> float:
        await everyone.wait()
        return task

    runner = LitAgentRunner[int]()
    with runner.run_context(agent=agent, store=store):
        finished = await asyncio.gather(*(runner.step(number) for number in range(3)))
    assert [(rollout.input, rollout.status) for rollout in finished] == [(number, "succeeded") for number in range(3)]


async def test_a_step_raises_what_the_agent_raised_after_the_attempt_has_failed(store: LightningStoreClient) -> None:
    ids = []

    def agent(task: str, rollout_id: str) -> float:
        ids.append(rollout_id)
        raise ValueError("no room")

    runner = LitAgentRunner[str]()
    with runner.run_context(agent=agent, store=store), pytest.raises(ValueError, match="no room"):
        await runner.step("task")
    assert (await store.get_rollout_by_id(ids[0])).status == "failed"


async def test_a_step_that_is_cancelled_has_not_succeeded(store: LightningStoreClient) -> None:
    ids = []

    async def agent(task: str, rollout_id: str) -> float:
        ids.append(rollout_id)
        stepping.cancel()
        await asyncio.get_running_loop().create_future()
        return 1.0

    runner = LitAgentRunner[str]()
    with runner.run_context(agent=agent, store=store):
        stepping = asyncio.create_task(runner.step("task"))
        await asyncio.wait([stepping])
    attempt = await store.get_latest_attempt(ids[0])
    assert (stepping.cancelled(), attempt.status, attempt.failure.type) == (True, "failed", "RunnerStopped")


async def test_a_step_is_finished_whatever_its_event_says(store: LightningStoreClient) -> None:
    event = asyncio.Event()
    event.set()
    runner = LitAgentRunner[str]()
    with runner.run_context(agent=lambda task: 1.0, store=store):
        assert (await runner.step("task", event=event)).status == "succeeded"


async def test_a_step_without_the_resource_says_which(store: LightningStoreClient) -> None:
    runner = LitAgentRunner[str]()
    with (
        runner.run_context(agent=lambda task, judge: 1.0, store=store),
        pytest.raises(MissingResourceError, match="'judge'"),
    ):
        await runner.step("task", resources={})


async def test_the_mode_of_a_step_chooses_the_method(store: LightningStoreClient) -> None:
    class Agent(LitAgent[str]):
        def training_rollout(self, task, resources, rollout):
            return 1.0

        def validation_rollout(self, task, resources, rollout):
            return 0.0

    runner = LitAgentRunner[str]()
    with runner.run_context(agent=Agent(), store=store):
        finished = await runner.step("task", mode="train")
    assert find_final_reward(await store.query_spans(finished.rollout_id)) == 1.0


@pytest.mark.parametrize(
    ("worker_id", "name"), [(3, "Worker-3"), ("left", "left"), (None, f"{socket.gethostname()}-{os.getpid()}")]
)
async def test_the_store_knows_the_worker_by_name(store: LightningStoreClient, worker_id, name) -> None:
    runner = LitAgentRunner[str]()
    with runner.run_context(agent=lambda task: 1.0, store=store, worker_id=worker_id):
        finished = await runner.step("task")
    assert (await store.get_latest_attempt(finished.rollout_id)).worker_id == name


async def test_a_numbered_worker_can_be_told_from_those_of_others(store: LightningStoreClient, caplog) -> None:
    runner = LitAgentRunner[str]()
    with (
        caplog.at_level("INFO", "agentlightning"),
        runner.run_context(agent=lambda task: 1.0, store=store, worker_id=3, worker_scope="9f"),
    ):
        finished = await runner.step("task")
    assert (await store.get_latest_attempt(finished.rollout_id)).worker_id == "Worker-3-9f"
    assert f"[Worker 3 | Rollout {finished.rollout_id}]" in caplog.text


async def test_the_log_tells_the_story(store: LightningStoreClient, caplog) -> None:
    with caplog.at_level("INFO", "agentlightning"):
        finished = await run_one(store, lambda task: 0.5)
    own = [message for message in caplog.messages if message.startswith("[Worker 0")]
    assert own[:3] == [
        "[Worker 0] Setting up tracer...",
        "[Worker 0] Instrumentation applied.",
        "[Worker 0] Started async rollouts (max: 1).",
    ]
    assert own[3].startswith(f"[Worker 0 | Rollout {finished.rollout_id}] Completed in 0.")
    assert own[3].endswith("s. Collected 2 span(s). Final reward: 0.5")
    assert own[4] == "[Worker 0] Finished async rollouts. Processed 1 tasks."


async def test_a_runner_without_a_context_says_what_to_do() -> None:
    with pytest.raises(AgentError, match=r"use it inside `with runner\.run_context"):
        await LitAgentRunner[str]().iter()


def test_what_is_no_agent_is_refused_before_anything_runs(store_address: str) -> None:
    context = LitAgentRunner[str]().run_context(agent="agent", store=LightningStoreClient(store_address))
    with pytest.raises(AgentError, match="an agent is a LitAgent or a function"), context:
        pass
