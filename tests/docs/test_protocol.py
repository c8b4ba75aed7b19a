"""docs/protocol.md holds what it shows: the runner works, the service config and the reasons are those there are."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import agentlightning as agl
import pytest
from agentlightning.v1.error_reason_pb2 import ErrorReason

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/protocol.md").read_text()
PREFIX = "ERROR_REASON_"
BOUND = 20.0


def block(opening: str) -> str:
    [found] = re.findall(rf"^```{re.escape(opening)}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_service_config_it_shows_is_the_file() -> None:
    assert block("json") == (ROOT / "proto/service_config.json").read_text()


def test_it_says_what_to_do_about_every_reason() -> None:
    _, table = PAGE.split("## Reasons and reactions")[1].split("|---|---|---|", 1)
    cells = [line.split("|")[2] for line in table.split("\n\n")[0].splitlines() if line]
    reasons = [reason.strip() for cell in cells for reason in cell.split(",")]
    assert sorted(reasons) == sorted(name.removeprefix(PREFIX) for name in ErrorReason.keys()[1:])


@pytest.fixture
def runner(store: agl.LightningStoreClient, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The runner of the page at work on the test's queue."""
    program = tmp_path / "runner.py"
    program.write_text(block("python runner.py"))
    settings = {"AGL_STORE": store.server_address.rpartition("/")[2], "AGL_QUEUE": store.queue, "AGL_CONCURRENCY": "4"}
    process = subprocess.Popen([sys.executable, program], env={**os.environ, **settings})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_the_runner_it_shows_works(store: agl.LightningStoreClient, runner: subprocess.Popen[bytes]) -> None:
    named = (await store.add_resources({"greeting": agl.PromptTemplate(template="Hi {name}")})).resources_id
    once = agl.RolloutConfig(max_redeliveries=0)
    good = await store.enqueue_rollout({"name": "Ada"}, resources_id=named)
    bad = await store.enqueue_rollout({"color": "red"}, resources_id=named)
    lacking = await store.enqueue_rollout({"name": "Ada"}, resources_id="rs-none", config=once)
    ids = [rollout.rollout_id for rollout in (good, bad, lacking)]
    found = {rollout.rollout_id: rollout for rollout in await store.wait_for_rollouts(rollout_ids=ids, timeout=BOUND)}
    succeeded, raised, unfounded = (found[rollout_id] for rollout_id in ids)
    spans = await store.query_spans(good.rollout_id)
    assert succeeded.final_reward == 1.0
    assert [(span.name, span.sequence_id) for span in spans] == [("greeting", 1), ("agentlightning.annotation", 2)]
    assert (raised.attempt.failure.kind, raised.attempt.failure.type) == ("agent", "KeyError")
    assert unfounded.attempt.failure.kind == "infrastructure"


async def test_it_keeps_what_runs_abandons_what_is_cancelled_and_finishes_the_rest_when_told_to_end(
    store: agl.LightningStoreClient, runner: subprocess.Popen[bytes]
) -> None:
    often = agl.RolloutConfig(unresponsive_seconds=3)  # a heartbeat every second, by which they are told to be running
    slow = await store.enqueue_rollout({"name": "Ada", "seconds": 2}, config=often)
    endless = await store.enqueue_rollout({"name": "Bob", "seconds": 600}, config=often)
    running: set[str] = set()
    async with asyncio.timeout(BOUND):
        async for change in store.watch(queue=store.queue):
            if isinstance(change.object, agl.Rollout) and change.object.status == "running":
                running.add(change.object.rollout_id)
            if running == {slow.rollout_id, endless.rollout_id}:
                break
    await store.cancel_rollouts([endless.rollout_id])
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(BOUND) == 0
    [finished] = await store.query_rollouts(rollout_id_in=[slow.rollout_id])
    assert (finished.status, finished.final_reward) == ("succeeded", 1.0)
    assert [span.name for span in await store.query_spans(endless.rollout_id)] == ["greeting"]
