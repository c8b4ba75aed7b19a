"""The TypeScript runner: its own tests, its agents on a real store, and what becomes of what they recorded."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.testing import ChatReply, OpenAIServer
from rooms import TOOLS, get_rooms_and_availability

RUNNER = Path(__file__).parents[2] / "examples/ts_runner"
SECONDS = 20.0

Built = Callable[[str], Path]


@pytest.fixture
def script(built: Built) -> Callable[[str], Path]:
    return lambda name: built(f"examples/ts_runner/dist/{name}.js")


@contextmanager
def running(script: Path, store: agl.LightningStoreClient, **env: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A runner in a process of its own, which is asked to end when the block does and must do so well."""
    own = {"AGL_STORE": store.server_address, "AGL_QUEUE": str(store.queue), "AGL_CONCURRENCY": "2", **env}
    process = subprocess.Popen(["node", str(script)], env=os.environ | own)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()


async def ended(store: agl.LightningStoreClient, *rollouts: agl.Rollout) -> list[agl.Rollout]:
    return await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id for rollout in rollouts], timeout=SECONDS)


async def last_attempt(store: agl.LightningStoreClient, rollout: agl.Rollout) -> agl.Attempt:
    return (await store.query_attempts(rollout.rollout_id))[-1]


def test_its_own_tests_pass(script: Callable[[str], Path]) -> None:
    tests = sorted(script("store.test").parent.glob("*.test.js"))
    subprocess.run(["node", "--test", *map(str, tests)], check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_the_room_selector_is_under_60_lines() -> None:
    assert len((RUNNER / "src/rooms.ts").read_text().splitlines()) < 60


def test_the_lockfile_names_no_registry() -> None:
    assert '"resolved"' not in (RUNNER / "package-lock.json").read_text()


async def test_an_agent_is_given_its_prompt_and_its_spans_and_reward_arrive(
    script: Callable[[str], Path], store: agl.LightningStoreClient, tmp_path: Path
) -> None:
    await store.add_resources({"prompt": agl.PromptTemplate(template="Hi {name}")})
    rollout = await store.enqueue_rollout({"log": str(tmp_path / "log"), "steps": 2, "reward": 0.5})
    with running(script("conformance"), store):
        [done] = await ended(store, rollout)
    assert (tmp_path / "log").read_text() == "began\nprompt Hi {name}\nended\n"
    names = [span.name for span in await store.query_spans(rollout.rollout_id)]
    assert names == ["agentlightning.rollout", "step-0", "step-1", "agentlightning.annotation"]
    assert (done.status, agl.find_final_reward(await store.query_spans(rollout.rollout_id))) == ("succeeded", 0.5)


async def test_spans_arrive_whatever_the_variables_of_opentelemetry_say(
    script: Callable[[str], Path], store: agl.LightningStoreClient, tmp_path: Path, strange_otel: dict[str, str]
) -> None:
    rollout = await store.enqueue_rollout({"log": str(tmp_path / "log"), "steps": 2})
    with running(script("conformance"), store, **strange_otel):
        await ended(store, rollout)
    names = [span.name for span in await store.query_spans(rollout.rollout_id)]
    assert names == ["agentlightning.rollout", "step-0", "step-1"]


async def test_an_agent_that_blocks_the_event_loop_keeps_its_lease(
    script: Callable[[str], Path], store: agl.LightningStoreClient, tmp_path: Path
) -> None:
    agent = tmp_path / "blocking.mjs"
    agent.write_text(
        f"import {{ runRunner }} from {json.dumps(str(script('runner')))};\n"
        "const pause = new Int32Array(new SharedArrayBuffer(4));\n"
        "await runRunner({ agent: async () => { Atomics.wait(pause, 0, 0, 2500); return 1; } });\n"
    )
    rollout = await store.enqueue_rollout({}, config=agl.RolloutConfig(unresponsive_seconds=2))
    with running(agent, store):
        [done] = await ended(store, rollout)
    attempt = await last_attempt(store, rollout)
    assert (done.status, attempt.sequence_id) == ("succeeded", 1)


async def test_a_failure_says_who_is_to_blame(
    script: Callable[[str], Path], store: agl.LightningStoreClient, tmp_path: Path
) -> None:
    agent = tmp_path / "failing.mjs"
    agent.write_text(
        f"import {{ InfrastructureError, runRunner }} from {json.dumps(str(script('runner')))};\n"
        "const agent = async (task, { signal }) => {\n"
        "  if (task === 'late') await new Promise((resolve) => signal.addEventListener('abort', resolve));\n"
        "  if (task === 'machine') throw new InfrastructureError('no GPU');\n"
        "  if (task === 'agent') throw new RangeError('7');\n"
        "  return NaN;\n"
        "};\n"
        "await runRunner({ agent });\n"
    )
    config = agl.RolloutConfig(timeout_seconds=0.2, max_redeliveries=0)
    rollouts = [await store.enqueue_rollout(task, config=config) for task in ("late", "machine", "agent", "nothing")]
    with running(agent, store):
        await ended(store, *rollouts)
    failures = [(await last_attempt(store, rollout)).failure for rollout in rollouts]
    assert [failure and failure.kind for failure in failures] == ["timeout", "infrastructure", "agent", "agent"]
    assert [failure and failure.type for failure in failures[1:]] == [
        "InfrastructureError",
        "RangeError",
        "InvalidReward",
    ]


async def test_what_the_room_selector_asks_its_model_is_read_as_that_of_a_python_agent(
    script: Callable[[str], Path], store: agl.LightningStoreClient
) -> None:
    await store.add_resources({"prompt_template": agl.PromptTemplate(template="At {time}, with {needs}.")})
    when: dict[str, Any] = {"date": "2026-03-02", "time": "10:00", "duration_min": 30}
    rooms = get_rooms_and_availability(when["date"], when["time"], when["duration_min"])
    task = {"task_input": {**when, "needs": ["camera"]}, "expected_choice": "Birch", "rooms": rooms}
    rollout = await store.enqueue_rollout(task)
    replies = [ChatReply(tool_calls=[("get_rooms_and_availability", when)]), ChatReply("I suggest Birch.")]
    with (
        OpenAIServer(lambda request: replies[len(request.messages) // 2]) as model,
        running(script("rooms"), store, OPENAI_API_KEY="none", OPENAI_BASE_URL=model.base_url),
    ):
        await ended(store, rollout)
    spans = await store.query_spans(rollout.rollout_id)
    first, last = [agl.TraceToMessages().adapt(spans)[index] for index in (0, -1)]
    assert first["tools"] == TOOLS
    roles = [message["role"] for message in last["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant"]
    user, call, tool, answer = last["messages"]
    assert (user["content"], answer["content"]) == ("At 10:00, with [camera].", "I suggest Birch.")
    assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == when
    assert json.loads(tool["content"]) == rooms
    assert agl.find_final_reward(spans) == 0.5


def test_the_readme_says_what_every_public_name_is() -> None:
    names = re.findall(r"^export (?:type )?\{ (.*) \}", (RUNNER / "src/runner.ts").read_text(), re.MULTILINE)
    exported = {name.removeprefix("type ") for line in names for name in line.split(", ")}
    readme = (RUNNER / "README.md").read_text()
    assert {name for name in exported if not re.search(rf"`{name}\b", readme)} == set()
