"""`AgentLightningServer`: tasks in, results out, over a real socket, and an end for what it started."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import agentlightning as agl
import openai
import pytest
from agentlightning.server import LitRollout
from agentlightning.store.presence import until_gone
from agentlightning.testing import ChatReply, OpenAIServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[agl.AgentLightningServer]:
    server = agl.AgentLightningServer(port=0, folder=tmp_path / "server")
    await server.start()
    yield server
    await server.stop()


async def work(server: agl.AgentLightningServer, agent: Any, rollouts: int = 1) -> None:
    """Run what is queued."""
    client = agl.LightningStoreClient(server.endpoint)
    runner = agl.LitAgentRunner[Any](max_rollouts=rollouts)
    with runner.run_context(agent=agent, store=client):
        await runner.iter()
    await client.close()


async def test_a_result_has_the_reward_and_what_the_agent_was_given(server: agl.AgentLightningServer) -> None:
    await server.update_resources({"system_prompt": agl.PromptTemplate(template="Be brief.", engine="f-string")})
    rollout_id = await server.queue_task(sample={"prompt": "Why?"}, mode="train", metadata={"batch": 1})
    await work(server, lambda task, system_prompt: 0.5 if system_prompt.template == "Be brief." else 0.0)
    result = await server.poll_completed_rollout(rollout_id, timeout=30)
    assert isinstance(result, LitRollout)
    assert (result.rollout_id, result.status, result.final_reward) == (rollout_id, "succeeded", 0.5)
    assert (result.task, result.mode, result.metadata) == ({"prompt": "Why?"}, "train", {"batch": 1})
    assert result.resources["system_prompt"] == agl.PromptTemplate(template="Be brief.")


async def test_a_result_has_the_spans_as_data_and_the_calls_of_models_as_triplets(
    server: agl.AgentLightningServer,
) -> None:
    with OpenAIServer(lambda request: ChatReply("So.")) as model:

        def agent(task: str) -> float:
            with openai.OpenAI(base_url=model.base_url, api_key="any") as client:
                client.chat.completions.create(model="small", messages=[{"role": "user", "content": task}])
            return 1.0

        rollout_id = await server.queue_task("Why?")
        await work(server, agent)
    result = await server.get_completed_rollout(rollout_id)
    assert result is not None
    assert [span["name"] for span in result.trace] == [span.name for span in result.spans]
    assert result.traces == result.trace
    [triplet] = result.triplets
    assert triplet.prompt["raw_content"][0]["content"] == "Why?"
    assert triplet.reward == 1.0


async def test_a_task_that_fails_has_a_result_that_says_why(server: agl.AgentLightningServer) -> None:
    def agent(task: str) -> float:
        raise ValueError("no room at the inn")

    rollout_id = await server.queue_task("Why?")
    await work(server, agent)
    result = await server.poll_completed_rollout(rollout_id)
    assert result is not None
    assert (result.status, result.final_reward) == ("failed", None)
    assert str(result.failure) == "ValueError: no room at the inn"


async def test_tasks_are_given_the_resources_of_the_time_they_were_queued(server: agl.AgentLightningServer) -> None:
    first = await server.update_resources({"system_prompt": "one"})
    ids = [await server.queue_task("a")]
    await server.update_resources({"system_prompt": "two words"})
    ids += [await server.queue_task("b"), await server.queue_task("c", resources_id=first)]
    await work(server, lambda task, system_prompt: float(len(system_prompt.template)), rollouts=3)
    results = [await server.get_completed_rollout(rollout_id) for rollout_id in ids]
    assert [result and result.final_reward for result in results] == [3.0, 9.0, 3.0]


async def test_there_is_no_result_before_its_time(server: agl.AgentLightningServer) -> None:
    rollout_id = await server.queue_task("Why?")
    assert await server.poll_completed_rollout(rollout_id, timeout=0) is None
    assert await server.get_completed_rollout(rollout_id) is None
    assert await server.get_completed_rollout("ro-000000000000") is None


async def test_an_unknown_task_is_not_waited_for(server: agl.AgentLightningServer) -> None:
    with pytest.raises(agl.NotFoundError, match="no rollout 'ro-000000000000'"):
        await server.poll_completed_rollout("ro-000000000000")


async def test_results_are_retrieved_once(server: agl.AgentLightningServer) -> None:
    ids = [await server.queue_task(number) for number in range(4)]
    await work(server, lambda task: float(task), rollouts=3)
    assert await server.get_completed_rollout(ids[0]) is not None
    retrieved = await server.retrieve_completed_rollouts()
    assert sorted(result.rollout_id for result in retrieved) == sorted(ids[1:3])
    assert await server.retrieve_completed_rollouts() == []


async def test_a_task_of_the_early_type_reaches_the_agent_as_one(server: agl.AgentLightningServer) -> None:
    class Agent(agl.LitAgent[agl.AgentLightningTask]):
        async def training_rollout(
            self, task: agl.AgentLightningTask, rollout_id: str, resources: dict[str, agl.AgentResource]
        ) -> float:
            return float(task.context)

    rollout_id = await server.queue_task(agl.AgentLightningTask(name="Number", context="7"), mode="train")
    await work(server, Agent())
    result = await server.get_completed_rollout(rollout_id)
    assert result is not None
    assert result.final_reward == 7.0


async def test_what_was_queued_outlives_the_server(tmp_path: Path) -> None:
    server = agl.AgentLightningServer(port=0, folder=tmp_path)
    await server.start()
    rollout_id = await server.queue_task("Why?")
    await server.stop()
    await server.start()
    await work(server, lambda task: 1.0)
    assert (await server.poll_completed_rollout(rollout_id)) is not None
    await server.stop()


async def test_a_store_that_is_killed_is_started_again_and_has_lost_nothing(server: agl.AgentLightningServer) -> None:
    rollout_id = await server.queue_task("Why?")
    polling = asyncio.create_task(server.poll_completed_rollout(rollout_id))
    os.kill(json.loads((server.folder / "store.db.lock").read_text())["pid"], signal.SIGKILL)
    await work(server, lambda task: 1.0)
    result = await polling
    assert result is not None
    assert result.final_reward == 1.0


async def test_nothing_works_before_the_start(tmp_path: Path) -> None:
    server = agl.AgentLightningServer(port=0, folder=tmp_path)
    with pytest.raises(agl.StoreUnavailableError, match=r"`await server\.start\(\)` first"):
        await server.queue_task("Why?")
    await server.stop()


async def test_a_port_that_another_server_has_is_refused_with_its_folder(
    server: agl.AgentLightningServer, tmp_path: Path
) -> None:
    port = int(server.endpoint.rpartition(":")[2])
    other = agl.AgentLightningServer(port=port, folder=tmp_path / "other")
    with pytest.raises(agl.StoreUnavailableError, match=r"the port is taken by a store .*server/store\.db"):
        await other.start()


async def test_a_port_that_something_else_has_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = agl.AgentLightningServer(port=taken.getsockname()[1], folder=tmp_path)
        with pytest.raises(agl.StoreUnavailableError, match="the port is taken by something that is not a store"):
            await server.start()


async def test_a_folder_that_another_server_has_is_refused_with_its_address(
    server: agl.AgentLightningServer,
) -> None:
    other = agl.AgentLightningServer(port=0, folder=server.folder)
    with pytest.raises(agl.StoreUnavailableError, match=f"served already.*{server.endpoint.removeprefix('http://')}"):
        await other.start()


async def test_serving_forever_ends_with_its_task_and_takes_the_server_along(tmp_path: Path) -> None:
    server = agl.AgentLightningServer(port=0, folder=tmp_path)
    await server.start()
    client = agl.LightningStoreClient(server.endpoint, retry_seconds=0.5)
    serving = asyncio.create_task(server.run_forever())
    await client.statistics()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(agl.StoreUnavailableError):
        await client.statistics()


OWNER = """
import asyncio
import agentlightning as agl

async def main():
    server = agl.AgentLightningServer(port=0)
    await server.start()
    print(server.endpoint, flush=True)
    await server.run_forever()

asyncio.run(main())
"""


def test_the_server_ends_with_its_owner_however_that_ends(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    endpoint = owner.stdout.readline().strip()
    owner.kill()
    owner.communicate()

    async def gone() -> None:
        async with asyncio.timeout(30):
            await until_gone(agl.LightningStoreClient(endpoint, retry_seconds=0.1))

    with pytest.raises(agl.StoreUnavailableError):
        asyncio.run(gone())
