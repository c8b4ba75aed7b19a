"""A runner that is interrupted, or whose store goes away for a while: nothing is lost, and nothing is called done."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from agentlightning import LightningStoreClient, LitAgentRunner
from agentlightning.types import EnqueueRolloutRequest, Rollout

BOUND = 20.0
RUNNER = """
import asyncio, logging, os, sys
import agentlightning as agl

logging.basicConfig(stream=sys.stdout, level="INFO", format="%(message)s")

def blocking(task: int) -> float:
    print("began", flush=True)
    os.read(0, 1)
    return 1.0

async def waiting(task: int) -> None:
    print("began", flush=True)
    await asyncio.get_running_loop().create_future()

async def iterate_as_a_task(runner) -> None:
    await asyncio.create_task(runner.iter())

agent = {"blocking": blocking, "waiting": waiting}[sys.argv[2]]
runner = agl.LitAgentRunner()
with runner.run_context(agent=agent, store=agl.LightningStoreClient(sys.argv[1])):
    asyncio.run(iterate_as_a_task(runner) if "as a task" in sys.argv else runner.iter())
"""
both_agents = pytest.mark.parametrize("agent", ["blocking", "waiting"])


def hear(runner: Any, words: str) -> None:
    """Wait until it says this."""
    while words not in (line := runner.read_line()):
        assert line, f"it ended before it said {words!r}: {runner.said}"


@pytest.fixture
def server(serve: Callable[..., Any]) -> Any:
    return serve()


@pytest.fixture
async def store(server: Any) -> AsyncIterator[LightningStoreClient]:
    client = LightningStoreClient(server.address)
    yield client
    await client.close()


@pytest.fixture
async def rollouts(store: LightningStoreClient) -> list[Rollout]:
    """Two, of which a runner begins the first."""
    return await store.enqueue_many_rollouts([EnqueueRolloutRequest(input=number) for number in range(2)])


@pytest.fixture
def start_runner(run_script: Callable[..., Any], server: Any) -> Callable[..., Any]:
    """Starts a runner in a process of its own that has begun a rollout."""

    def start(*arguments: str) -> Any:
        runner = run_script(RUNNER, server.address, *arguments)
        hear(runner, "began")
        return runner

    return start


async def statuses(store: LightningStoreClient, rollouts: list[Rollout]) -> list[str]:
    found = [await store.get_rollout_by_id(rollout.rollout_id) for rollout in rollouts]
    return [rollout.status for rollout in found if rollout is not None]


async def is_given_back(store: LightningStoreClient, rollout: Rollout) -> bool:
    """Whether its first attempt was lost to the runner's end, and it is to be delivered again."""
    [attempt] = await store.query_attempts(rollout.rollout_id)
    lost_to = attempt.failure and (attempt.failure.kind, attempt.failure.type)
    return (await statuses(store, [rollout]), lost_to) == (["requeuing"], ("infrastructure", "RunnerStopped"))


async def test_the_first_interrupt_finishes_what_runs_and_takes_no_more(
    store: LightningStoreClient, rollouts: list[Rollout], start_runner: Callable[..., Any]
) -> None:
    runner = start_runner("blocking")
    runner.send(signal.SIGINT)
    hear(runner, "Interrupted: finishing what runs. Interrupt again to stop it.")
    runner.write_line("go on")
    assert runner.wait() == 0
    assert await statuses(store, rollouts) == ["succeeded", "queuing"]


@both_agents
async def test_the_second_interrupt_gives_back_what_runs(
    store: LightningStoreClient, rollouts: list[Rollout], start_runner: Callable[..., Any], agent: str
) -> None:
    runner = start_runner(agent)
    runner.send(signal.SIGINT)
    hear(runner, "Interrupted")
    runner.send(signal.SIGINT)
    assert runner.wait() == -signal.SIGINT, runner.said
    assert await is_given_back(store, rollouts[0])


async def test_an_idle_runner_ends_at_the_first_interrupt(server: Any, run_script: Callable[..., Any]) -> None:
    runner = run_script(RUNNER, server.address, "blocking")
    hear(runner, "Started async rollouts")
    runner.send(signal.SIGINT)
    assert runner.wait() == 0


@both_agents
async def test_a_runner_that_is_part_of_a_program_leaves_interrupts_alone(
    store: LightningStoreClient, rollouts: list[Rollout], start_runner: Callable[..., Any], agent: str
) -> None:
    """Here `asyncio.run` handles them, and cancels everything at the first."""
    runner = start_runner(agent, "as a task")
    runner.send(signal.SIGINT)
    assert runner.wait() == -signal.SIGINT, runner.said
    assert await is_given_back(store, rollouts[0])


async def test_a_runner_goes_on_when_its_store_comes_back(
    store: LightningStoreClient, rollouts: list[Rollout], server: Any, serve: Callable[..., Any]
) -> None:
    """One rollout is in progress when the store is killed, and one is taken afterwards."""
    began, may_end = asyncio.Event(), asyncio.Event()

    async def agent(task: int) -> float:
        began.set()
        await may_end.wait()
        return 1.0

    runner = LitAgentRunner[int](max_rollouts=2)
    with runner.run_context(agent=agent, store=store):
        running = asyncio.create_task(runner.iter())
        await asyncio.wait_for(began.wait(), BOUND)
        server.kill()
        serve(port=server.port)
        may_end.set()
        await asyncio.wait_for(running, BOUND)
    assert await statuses(store, rollouts) == ["succeeded", "succeeded"]


async def test_an_idle_runner_takes_work_when_its_store_comes_back(
    store: LightningStoreClient, server: Any, serve: Callable[..., Any]
) -> None:
    runner = LitAgentRunner[int](max_rollouts=2)
    with runner.run_context(agent=lambda task: 1.0, store=store):
        running = asyncio.create_task(runner.iter())
        await store.wait_for_rollouts([(await store.enqueue_rollout(1)).rollout_id], timeout=BOUND)
        server.kill()
        serve(port=server.port)
        await store.enqueue_rollout(2)
        await asyncio.wait_for(running, BOUND)
    assert [rollout.status for rollout in await store.query_rollouts()] == ["succeeded", "succeeded"]
