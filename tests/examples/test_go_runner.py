"""The Go example: its own checks, what its runner records, and its agent with a model.

What every runner must do, tests/conformance plays to it.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from rooms import get_rooms_and_availability, load_tasks

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/go_runner"

Built = Callable[[str], Path]


def go(*arguments: str) -> str:
    if shutil.which("go") is None:
        pytest.skip("there is no Go here")
    done = subprocess.run(arguments, cwd=EXAMPLE, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_code_is_formatted() -> None:
    assert go("gofmt", "-l", ".") == ""


def test_the_code_is_vetted_and_passes_its_own_tests() -> None:
    go("go", "vet", "./...")
    go("go", "test", "./...")


def test_the_agent_is_under_60_lines() -> None:
    assert len((EXAMPLE / "cmd/rooms/main.go").read_text().splitlines()) < 60


@contextmanager
def running(program: Path, store: agl.LightningStoreClient, **environment: str) -> Iterator[None]:
    """A runner for the queue of a client, until it is told to end."""
    settings = {"AGL_STORE": store.server_address, "AGL_QUEUE": str(store.queue), "AGL_CONCURRENCY": "2"}
    with subprocess.Popen([str(program)], env=os.environ | settings | environment) as process:
        try:
            yield
        finally:
            process.terminate()


async def ended(store: agl.LightningStoreClient, task: Any, **config: Any) -> agl.AttemptedRollout:
    rollout = await store.enqueue_rollout(task, config=agl.RolloutConfig(**config))
    [found] = await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=30)
    assert isinstance(found, agl.AttemptedRollout)
    return found


async def test_spans_are_numbered_as_they_start_below_the_root_and_the_reward_is_the_last(
    built: Built, store: agl.LightningStoreClient, tmp_path: Path
) -> None:
    with running(built("examples/go_runner/bin/conformance"), store):
        rollout = await ended(store, {"log": str(tmp_path / "log"), "steps": 2, "reward": 0.75})
    spans = await store.query_spans(rollout.rollout_id)
    names = ["agentlightning.rollout", "step-0", "step-1", "agentlightning.annotation"]
    assert [(span.sequence_id, span.name) for span in spans] == list(enumerate(names, start=1))
    assert {span.parent_id for span in spans[1:]} == {spans[0].span_id}
    assert rollout.attempt.final_reward == 0.75


async def test_spans_arrive_whatever_the_variables_of_opentelemetry_say(
    built: Built, store: agl.LightningStoreClient, tmp_path: Path, strange_otel: dict[str, str]
) -> None:
    with running(built("examples/go_runner/bin/conformance"), store, **strange_otel):
        rollout = await ended(store, {"log": str(tmp_path / "log"), "steps": 2})
    names = [span.name for span in await store.query_spans(rollout.rollout_id)]
    assert names == ["agentlightning.rollout", "step-0", "step-1"]


def room_task() -> dict[str, Any]:
    """A task as train_runner.py gives it."""
    task = load_tasks("train")[0]
    asked = task["task_input"]
    return {**task, "rooms": get_rooms_and_availability(asked["date"], asked["time"], asked["duration_min"])}


async def test_the_agent_answers_a_task_and_python_reads_its_messages_and_tools(
    built: Built, store: agl.LightningStoreClient
) -> None:
    task = room_task()

    def model(request: ChatRequest) -> ChatReply:
        if request.tools:
            return ChatReply(tool_calls=[("get_rooms_and_availability", {"date": "2026-03-02"})])
        return ChatReply(f"I suggest {task['expected_choice']}.")

    await store.add_resources({"prompt_template": agl.PromptTemplate(template="{attendees} people, {needs}")})
    with OpenAIServer(model) as server:
        endpoint = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "none"}
        with running(built("examples/go_runner/bin/rooms"), store, **endpoint):
            rollout = await ended(store, task)
    first, second = agl.TraceToMessages().adapt(await store.query_spans(rollout.rollout_id))
    asked, called, answer = second["messages"][:3]
    assert asked["content"].startswith(f"{task['task_input']['attendees']} people, [")
    assert called["tool_calls"][0]["function"]["name"] == "get_rooms_and_availability"
    assert '"Maple"' in answer["content"]
    assert second["messages"][3]["content"] == f"I suggest {task['expected_choice']}."
    assert first["tools"]
    assert rollout.attempt.final_reward == 0.5


async def test_a_model_that_cannot_be_reached_is_not_the_agents_fault(
    built: Built, store: agl.LightningStoreClient
) -> None:
    await store.add_resources({"prompt_template": agl.PromptTemplate(template="Any room.")})
    endpoint = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "OPENAI_API_KEY": "none"}
    with running(built("examples/go_runner/bin/rooms"), store, **endpoint):
        rollout = await ended(store, room_task(), max_redeliveries=0)
    assert rollout.attempt.failure
    assert rollout.attempt.failure.kind == "infrastructure"
