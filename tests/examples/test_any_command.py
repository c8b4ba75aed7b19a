"""The agents of examples/any_command, as docs/any-command.md runs them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.runner.runner import LitAgentRunner

FOLDER = Path(__file__).parents[2] / "examples/any_command"
ROOMS = {"rooms": [{"id": "Alder", "capacity": 4}, {"id": "Maple", "capacity": 8}, {"id": "Rowan", "capacity": 12}]}


async def run(agent: agl.CommandAgent, store: agl.LightningStoreClient, task: Any, **resources: Any) -> agl.Rollout:
    named = await store.add_resources(resources)
    queued = await store.enqueue_rollout(task, resources_id=named.resources_id)
    runner: LitAgentRunner[Any] = LitAgentRunner(max_rollouts=1)
    with runner.run_context(agent=agent, store=store):
        await runner.iter()
    rollout = await store.get_rollout_by_id(queued.rollout_id)
    assert rollout is not None
    return rollout


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("curl")), reason="it is of curl and jq")
async def test_the_shell_agent_asks_a_model_and_its_conversation_is_recorded(
    store: agl.LightningStoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offline_model import offline_model
    from rooms import get_rooms_and_availability, load_tasks

    task: dict[str, Any] = {**load_tasks("train")[0]}
    asked = task["task_input"]
    task["rooms"] = get_rooms_and_availability(asked["date"], asked["time"], asked["duration_min"])
    template = "{{A room}} on {date} at {time} for {duration_min} minutes, {attendees} attendees, needs {needs}."
    with offline_model() as base_url:
        monkeypatch.setenv("OPENAI_BASE_URL", base_url)
        rollout = await run(agl.CommandAgent([str(FOLDER / "agent.sh")]), store, task, prompt_template=template)
    attempt = await store.get_latest_attempt(rollout.rollout_id)
    assert attempt and attempt.failure is None and attempt.final_reward in (0.0, 0.5, 1.0)
    spans = await store.query_spans(rollout.rollout_id)
    _, conversation = agl.TraceToMessages().adapt(spans)
    roles = [message["role"] for message in conversation["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert conversation["messages"][0]["content"].startswith(f"{{A room}} on {asked['date']} at {asked['time']} for ")


async def test_the_java_agent_is_traced_by_its_stock_opentelemetry(
    store: agl.LightningStoreClient, built: Callable[[str], Path]
) -> None:
    target = built("examples/any_command/java/target/agent-1.jar").parent
    agent = agl.CommandAgent(["java", "-cp", f"{target}/agent-1.jar:{target}/lib/*", "Agent"])
    rollout = await run(agent, store, {"attendees": 6, **ROOMS, "expected_choice": "Maple"})
    attempt = await store.get_latest_attempt(rollout.rollout_id)
    assert attempt and attempt.final_reward == 1.0
    spans = list(await store.query_spans(rollout.rollout_id))
    [process] = [span for span in spans if span.name == "java"]
    [choosing] = [span for span in spans if span.name == "choose room"]
    looks = [span.attributes["room.id"] for span in spans if span.parent_id == choosing.span_id]
    assert (choosing.parent_id, choosing.attributes["room.choice"]) == (process.span_id, "Maple")
    assert looks == ["Alder", "Maple", "Rowan"]
    assert "WARN" not in str(process.attributes.get("agentlightning.process.stderr", ""))
