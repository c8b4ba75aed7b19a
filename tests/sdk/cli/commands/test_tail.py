"""`agl rollouts tail` against a real store."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import agentlightning as agl

BOUND = 20.0
Store = agl.LightningStoreClient


@contextmanager
def tail(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A tail that follows already."""
    line = [sys.executable, "-m", "agentlightning", "rollouts", "tail", *arguments]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "following; Ctrl-C ends it\n"
            yield process
        finally:
            process.kill()


async def test_each_change_is_a_line_until_ctrl_c_ends_it_quietly(store: Store, store_address: str) -> None:
    run = await store.create_run("x")
    bound = store.bind(run_id=run.run_id)
    before = await bound.enqueue_rollout("before")
    with tail("--run", run.run_id, "--store", store_address) as process:
        assert process.stdout is not None
        rollout = await bound.enqueue_rollout("after")
        assert process.stdout.readline().split()[1:] == [rollout.rollout_id, "queuing"]
        await store.enqueue_rollout("of no run")
        await bound.cancel_rollouts([before.rollout_id])
        assert process.stdout.readline().split()[1:] == [before.rollout_id, "cancelled"]
        process.send_signal(signal.SIGINT)
        assert process.wait(BOUND) == 130
        assert process.stderr is not None
        assert process.stdout.read() + process.stderr.read() == ""


async def test_only_what_fits_is_told_and_as_json_it_is_the_rollout(store: Store, store_address: str) -> None:
    arguments = ("--queue", str(store.queue), "--status", "failed", "--json", "--store", store_address)
    with tail(*arguments) as process:
        rollout = await store.start_rollout("task")
        failure = agl.Failure(kind="agent", type="ValueError", message="no room")
        await store.complete_attempt(rollout.rollout_id, rollout.attempt.attempt_id, failure=failure)
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert (told["rollout_id"], told["status"]) == (rollout.rollout_id, "failed")
        assert told["attempt"]["failure"]["message"] == "no room"
