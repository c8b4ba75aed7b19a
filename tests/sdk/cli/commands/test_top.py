"""`agl top` against real stores."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from agentlightning import Failure, LightningStoreClient
from agentlightning.testing import FakeClock, TemporaryStore

Command = Callable[..., Awaitable[Any]]


async def reading(anywhere: Command, store: LightningStoreClient, *arguments: str) -> Any:
    told = await anywhere("top", "--store", store.server_address, "--once", "--json", *arguments)
    assert (told.status, told.err) == (0, "")
    return json.loads(told.out)


async def test_the_depth_of_a_queue_is_a_number_for_an_autoscaler(
    anywhere: Command, store: LightningStoreClient
) -> None:
    assert (await reading(anywhere, store, "--queue", "nobody's"))["queued"] == 0
    for task in range(3):
        await store.enqueue_rollout(task)
    await store.bind(queue="another").enqueue_rollout("not counted")
    assert store.queue is not None
    told = await reading(anywhere, store, "--queue", store.queue)
    assert (told["queued"], list(told["queues"])) == (3, [store.queue])


async def test_what_waits_and_runs_is_told_with_for_how_long(
    anywhere: Command, clocked_store: LightningStoreClient, clock: FakeClock
) -> None:
    rollouts = [await clocked_store.enqueue_rollout(task) for task in range(3)]
    await clocked_store.dequeue_rollout("Worker-1")
    clock.advance(5)
    await clocked_store.dequeue_rollout("Worker-2")
    clock.advance(1)
    told = await reading(anywhere, clocked_store)
    (queue,) = told["queues"].values()
    assert (queue["queued"], queue["oldest_queued_seconds"], queue["running"]) == (1, 6.0, 2)
    assert [(slow["rollout_id"], slow["worker_id"], round(slow["running_seconds"], 3)) for slow in told["slowest"]] == [
        (rollouts[0].rollout_id, "Worker-1", 6.0),
        (rollouts[1].rollout_id, "Worker-2", 1.0),
    ]
    assert round(told["leases"]["first_ends_in_seconds"], 3) == 54.0
    assert (told["leases"]["held"], round(told["leases"]["oldest_heartbeat_seconds"], 3)) == (2, 6.0)
    assert told["workers"] == {"known": 2, "busy": 2}
    assert told["server"]["uptime_seconds"] == 6.0
    assert told["rates"]["enqueued_per_second"] == 0.5


async def test_the_latest_failures_come_with_their_reasons(anywhere: Command, store: LightningStoreClient) -> None:
    for number in range(6):
        rollout = await store.start_rollout(number)
        failure = Failure(kind="agent", type="KeyError", message=f"no room {number}")
        await store.complete_attempt(rollout.rollout_id, rollout.attempt.attempt_id, failure=failure)
    told = await reading(anywhere, store, "--queue", store.queue or "")
    assert [(failure["kind"], failure["reason"]) for failure in told["failures"]] == [
        ("agent", f"KeyError: no room {number}") for number in (5, 4, 3, 2, 1)
    ]


async def test_in_a_pipe_one_reading_is_printed_for_people(anywhere: Command, store: LightningStoreClient) -> None:
    await store.enqueue_rollout("task")
    told = await anywhere("top", "--store", store.server_address, "--queue", store.queue or "")
    assert (told.status, told.err) == (0, "")
    lines = told.out.splitlines()
    assert lines[0].startswith(f"store {store.server_address}  version ")
    assert lines[1].startswith("1 queued, 0 running  |  a second, over the last ")
    assert lines[4].split()[0] == "queue"
    assert lines[5].split()[:2] == [store.queue, "1"]
    assert "\x1b" not in told.out


Terminal = tuple["subprocess.Popen[bytes]", int]


@pytest.fixture
def ended_store() -> Iterator[TemporaryStore]:
    """A store that the test may end."""
    with TemporaryStore() as store:
        yield store


@pytest.fixture
def terminal(ended_store: TemporaryStore) -> Iterator[Terminal]:
    """The command on a terminal, when it has drawn its first reading, and the terminal's other end."""
    outer, inner = pty.openpty()
    command = [sys.executable, "-m", "agentlightning", "top", "--store", ended_store.address]
    process = subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    read_until(outer, b"queued")
    yield process, outer
    os.close(outer)
    process.kill()
    process.wait()


def read_until(terminal: int, words: bytes) -> None:
    seen = b""
    while words not in seen:
        seen += os.read(terminal, 4096)


def ended(process: "subprocess.Popen[bytes]", terminal: int) -> tuple[int, bytes]:
    """How the command ended, and what it said from now on."""
    said = b""
    try:
        while piece := os.read(terminal, 4096):
            said += piece
    except OSError:  # the other end is closed
        pass
    return process.wait(timeout=30), said


def test_the_key_q_ends_it_quietly_also_when_the_store_has_gone(
    terminal: Terminal, ended_store: TemporaryStore
) -> None:
    process, outer = terminal
    ended_store.__exit__()
    read_until(outer, b"trying again; q ends")
    os.write(outer, b"q")
    code, said = ended(process, outer)
    assert (code, b"Traceback" in said) == (0, False)


def test_an_interrupt_ends_it_quietly(terminal: Terminal) -> None:
    process, outer = terminal
    process.send_signal(signal.SIGINT)
    code, said = ended(process, outer)
    assert (code, b"Traceback" in said) == (0, False)
