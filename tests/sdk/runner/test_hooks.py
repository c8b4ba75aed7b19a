import asyncio
from typing import Any

import pytest
from agentlightning import LightningStoreClient
from agentlightning.emitter import emit_reward, find_final_reward
from agentlightning.errors import AgentError
from agentlightning.runner import Hook, LitAgentRunner

IN_ORDER = ["on_rollout_start", "on_trace_start", "on_trace_end", "on_rollout_end"]


class Noting(Hook):
    """Notes what it is called with, in a list that it may share."""

    def __init__(self, notes: list[tuple[str, dict[str, Any]]]) -> None:
        self.notes = notes

    async def on_rollout_start(self, **given: Any) -> None:
        self.notes.append(("on_rollout_start", given))

    async def on_trace_start(self, **given: Any) -> None:
        self.notes.append(("on_trace_start", given))

    async def on_trace_end(self, **given: Any) -> None:
        self.notes.append(("on_trace_end", given))

    async def on_rollout_end(self, **given: Any) -> None:
        self.notes.append(("on_rollout_end", given))


def names(hook: Noting) -> list[str]:
    return [name for name, _ in hook.notes]


async def step(store: LightningStoreClient, agent: Any, *hooks: Hook) -> Any:
    runner = LitAgentRunner[str]()
    with runner.run_context(agent=agent, store=store, hooks=hooks):
        return await runner.step("task")


async def test_hooks_are_called_around_the_rollout_and_its_trace(store: LightningStoreClient) -> None:
    hook = Noting([])

    async def agent(task: str) -> float:
        hook.notes.append(("agent", {}))
        return 1.0

    await step(store, agent, hook)
    assert names(hook) == [*IN_ORDER[:2], "agent", *IN_ORDER[2:]]


async def test_each_hook_is_given_what_it_is_documented_to_be_given(store: LightningStoreClient) -> None:
    hook = Noting([])
    finished = await step(store, lambda task: 1.0, hook)
    given = dict(hook.notes)
    of_all = {"agent", "runner", "rollout"}
    assert [set(given[name]) for name in IN_ORDER] == [
        of_all,
        of_all | {"tracer"},
        of_all | {"tracer"},
        of_all | {"spans"},
    ]
    assert given["on_trace_start"]["tracer"] is given["on_rollout_start"]["runner"].tracer
    assert given["on_rollout_end"]["rollout"].rollout_id == finished.rollout_id


async def test_the_last_hook_sees_all_spans_and_the_reward_that_was_returned(store: LightningStoreClient) -> None:
    hook = Noting([])
    await step(store, lambda task: 0.5, hook)
    assert find_final_reward(dict(hook.notes)["on_rollout_end"]["spans"]) == 0.5


async def test_several_hooks_are_called_in_the_order_given(store: LightningStoreClient) -> None:
    notes: list[Any] = []
    first, second = Noting(notes), Noting(notes)
    await step(store, lambda task: 1.0, first, second)
    assert names(first) == [name for name in IN_ORDER for _ in (first, second)]


async def test_hooks_are_called_in_order_when_the_agent_fails(store: LightningStoreClient) -> None:
    hook = Noting([])

    def agent(task: str) -> float:
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        await step(store, agent, hook)
    assert names(hook) == IN_ORDER


async def test_hooks_are_called_in_order_when_the_rollout_is_cancelled(store: LightningStoreClient) -> None:
    hook = Noting([])

    async def agent(task: str, rollout_id: str) -> None:
        await store.cancel_rollouts([rollout_id])
        await asyncio.get_running_loop().create_future()

    await store.enqueue_rollout("task")
    runner = LitAgentRunner[str](max_rollouts=1)
    with runner.run_context(agent=agent, store=store, hooks=[hook]):
        await runner.iter()
    assert names(hook) == IN_ORDER


@pytest.mark.parametrize("where", IN_ORDER)
async def test_a_rollout_that_is_stopped_in_a_hook_is_given_back(store: LightningStoreClient, where: str) -> None:
    class Stopping(Hook):
        async def stop(self, **_: Any) -> None:
            task.cancel()
            await asyncio.get_running_loop().create_future()

    setattr(Stopping, where, Stopping.stop)
    queued = await store.enqueue_rollout("task")
    runner = LitAgentRunner[str](max_rollouts=1)
    with runner.run_context(agent=lambda task: 1.0, store=store, hooks=[Stopping()]):
        task = asyncio.create_task(runner.iter())
        await asyncio.wait([task])
    attempt = await store.get_latest_attempt(queued.rollout_id)
    assert attempt is not None
    assert attempt.failure is not None
    assert (attempt.status, attempt.failure.type) == ("failed", "RunnerStopped")


async def test_a_hook_may_be_a_plain_method(store: LightningStoreClient) -> None:
    class Plain(Hook):
        started = 0

        def on_rollout_start(self, **_: Any) -> None:  # type: ignore[override]
            self.started += 1

    hook = Plain()
    await step(store, lambda task: 1.0, hook)
    assert hook.started == 1


@pytest.mark.parametrize("where", IN_ORDER)
async def test_a_hook_that_raises_is_logged_and_harms_nothing(store: LightningStoreClient, caplog, where: str) -> None:
    class Broken(Hook):
        async def fail(self, **_: Any) -> None:
            raise SystemExit("broken")

    setattr(Broken, where, Broken.fail)
    after = Noting([])
    finished = await step(store, lambda task: 1.0, Broken(), after)
    assert (finished.status, names(after)) == ("succeeded", IN_ORDER)
    assert f"Exception during {where} hook" in caplog.text


async def test_what_a_hook_emits_within_the_trace_belongs_to_the_rollout(store: LightningStoreClient) -> None:
    class Rewarding(Hook):
        async def on_trace_end(self, **_: Any) -> None:
            emit_reward(0.25)

    finished = await step(store, lambda task: None, Rewarding())
    assert find_final_reward(await store.query_spans(finished.rollout_id)) == 0.25


async def test_a_hook_can_ask_the_runner_whom_it_works_for(store: LightningStoreClient) -> None:
    answers = []

    class Asking(Hook):
        async def on_rollout_start(self, *, agent: Any, runner: LitAgentRunner[Any], **_: Any) -> None:
            answers.extend([runner.get_agent() is agent, runner.get_store() is store, runner.get_worker_id()])

    runner = LitAgentRunner[str]()
    with runner.run_context(agent=lambda task: 1.0, store=store, hooks=[Asking()], worker_id=3):
        await runner.step("task")
    assert answers == [True, True, "Worker-3"]


async def test_what_is_no_hook_is_refused_by_its_place(store: LightningStoreClient) -> None:
    with pytest.raises(AgentError, match=r"hooks\[1\] is <class .*Noting.*, expected an instance"):
        await step(store, lambda task: 1.0, Noting([]), Noting)  # type: ignore[arg-type]
