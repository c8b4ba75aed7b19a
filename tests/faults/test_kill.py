"""Kill -9 of the server under load loses nothing that was acknowledged, and does nothing twice."""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agentlightning import LightningStoreClient, Span

KILLS = 12
PRODUCERS, WORKERS = 2, 4
CALLS_BETWEEN_KILLS = range(20, 60)
SPANS_BEFORE, SPANS_WITH_THE_END = 3, 1


@dataclass
class Load:
    """What clients were told by the server, whichever process of it."""

    enqueued: dict[str, int] = field(default_factory=dict)
    """Acknowledged rollouts, and the task of each."""
    completed: list[str] = field(default_factory=list)
    """Acknowledged completions, by attempt."""
    calls: int = 0
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def acknowledged(self) -> None:
        self.calls += 1
        self.progress.set()

    async def wait_for(self, calls: int) -> None:
        """Until so many more calls were answered."""
        target = self.calls + calls
        while self.calls < target:
            self.progress.clear()
            await self.progress.wait()


async def produce(load: Load, client: LightningStoreClient, first: int) -> None:
    task = first
    while not load.enough.is_set():
        rollout = await client.enqueue_rollout(task)
        load.enqueued[rollout.rollout_id] = task
        load.acknowledged()
        task += PRODUCERS


async def work(load: Load, client: LightningStoreClient, worker_id: str) -> None:
    while True:
        claimed = await client.dequeue_rollout(worker_id=worker_id, wait_seconds=5)
        if claimed is None:
            continue
        load.acknowledged()
        ids = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id}
        *before, last = [
            Span.from_attributes(attributes={"task": claimed.input}, name=f"step {number}", **ids)
            for number in range(SPANS_BEFORE + SPANS_WITH_THE_END)
        ]
        await client.add_many_spans(before)
        load.acknowledged()
        await client.complete_attempt(**ids, spans=[last])
        load.completed.append(claimed.attempt.attempt_id)
        load.acknowledged()


async def test_nothing_acknowledged_is_lost_and_nothing_is_done_twice(serve: Callable[..., Any]) -> None:
    server = serve()
    address, port = server.address, server.port
    clients = [LightningStoreClient(address, retry_seconds=60) for _ in range(PRODUCERS + WORKERS)]
    load = Load()
    chance = random.Random(0)
    async with asyncio.TaskGroup() as tasks:
        producers = [tasks.create_task(produce(load, clients[number], number)) for number in range(PRODUCERS)]
        workers = [
            tasks.create_task(work(load, clients[PRODUCERS + number], f"worker-{number}")) for number in range(WORKERS)
        ]
        for _ in range(KILLS):
            await load.wait_for(chance.choice(CALLS_BETWEEN_KILLS))
            await asyncio.to_thread(server.kill)
            server = await asyncio.to_thread(serve, port=port)
        load.enough.set()
        await asyncio.wait(producers)
        finished = await clients[0].wait_for_rollouts(list(load.enqueued), timeout=60)
        for worker in workers:
            worker.cancel()
    for client in clients:
        await client.close()
    server.send(15)
    assert server.wait() == 0

    connection = sqlite3.connect(server.database)
    tasks_of = dict(connection.execute("SELECT rollout_id, input_json FROM rollouts"))
    succeeded = dict(connection.execute("SELECT attempt_id, rollout_id FROM attempts WHERE status = 'succeeded'"))
    spans = Counter(row[0] for row in connection.execute("SELECT attempt_id FROM spans"))
    unsound = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    connection.close()

    lost = [rollout for rollout, task in load.enqueued.items() if tasks_of.get(rollout) != str(task)]
    enqueued_twice = [task for task, count in Counter(tasks_of.values()).items() if count > 1]
    done_twice = [rollout for rollout, count in Counter(succeeded.values()).items() if count > 1]
    untrue = [attempt for attempt in load.completed if attempt not in succeeded]
    stuck = load.enqueued.keys() - {rollout.rollout_id for rollout in finished if rollout.status == "succeeded"}
    incomplete = [attempt for attempt in succeeded if spans[attempt] != SPANS_BEFORE + SPANS_WITH_THE_END]
    print(
        f"\n{KILLS} kills, {load.calls} calls acknowledged, of them {len(load.enqueued)} enqueues and "
        f"{len(load.completed)} completions: {len(lost)} lost, {len(enqueued_twice)} enqueued twice, "
        f"{len(done_twice)} done twice, {len(untrue)} untrue, {len(stuck)} stuck, "
        f"{len(incomplete)} with spans missing or doubled"
    )
    assert (lost, enqueued_twice, done_twice, untrue, stuck, incomplete) == ([], [], [], [], set(), [])
    assert unsound == []
