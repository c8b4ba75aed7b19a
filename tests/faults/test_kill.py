"""Kill -9 of the server under load loses nothing that was acknowledged, and does nothing twice."""

import asyncio
import contextlib
import itertools
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentlightning import LightningStoreClient, PromptTemplate, Span
from agentlightning.types import AttemptedRollout, EnqueueRolloutRequest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.resources_pb2 import Resources
from agentlightning.v1.run_pb2 import Run

CALLS_BETWEEN_KILLS = range(50, 300)
BATCH = 5
SPANS_BEFORE, SPANS_WITH_THE_END = 3, 1


@dataclass
class Load:
    """What clients were told by the server, whichever process of it."""

    enqueued: dict[str, str] = field(default_factory=dict)
    """Acknowledged rollouts, and the task of each."""
    cancelled: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    """Acknowledged completions, by attempt."""
    seen: Counter[str] = field(default_factory=Counter)
    """How often a waiter was told of the end of each rollout."""
    resources: dict[tuple[str, int], str] = field(default_factory=dict)
    """Acknowledged versions, and the template of each."""
    checkpoints: dict[str, str] = field(default_factory=dict)
    """The last acknowledged checkpoint of each run."""
    calls: int = 0
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def new(self) -> Iterator[str]:
        """Names that nobody else gives, until there is enough."""
        while not self.enough.is_set():
            yield f"new-{next(self.numbers)}"

    async def acknowledged(self, call: Coroutine[Any, Any, Any]) -> Any:
        answer = await call
        self.calls += 1
        self.progress.set()
        return answer

    async def wait_for(self, calls: int) -> None:
        """Until so many more calls were answered."""
        target = self.calls + calls
        while self.calls < target:
            self.progress.clear()
            await self.progress.wait()


async def enqueue(load: Load, client: LightningStoreClient, tasks: list[str]) -> list[str]:
    requests = [EnqueueRolloutRequest(input=task) for task in tasks]
    rollouts = await load.acknowledged(client.enqueue_many_rollouts(requests))
    load.enqueued |= {rollout.rollout_id: rollout.input for rollout in rollouts}
    return [rollout.rollout_id for rollout in rollouts]


async def produce_and_wait(load: Load, client: LightningStoreClient) -> None:
    for name in load.new():
        ids = await enqueue(load, client, [f"{name} of {number}" for number in range(BATCH)])
        async for rollout in client.iter_finished(ids):
            load.seen[rollout.rollout_id] += 1


async def cancel(load: Load, client: LightningStoreClient) -> None:
    nobodys = client.bind(queue="nobody's")
    for name in load.new():
        ids = await enqueue(load, nobodys, [name])
        await load.acknowledged(client.cancel_rollouts(ids))
        load.cancelled += ids
        load.seen.update(rollout.rollout_id for rollout in await client.wait_for_rollouts(ids))


async def start(load: Load, client: LightningStoreClient) -> None:
    for name in load.new():
        first = await load.acknowledged(client.start_rollout(name, worker_id="starter"))
        load.enqueued[first.rollout_id] = name
        second = await load.acknowledged(client.start_attempt(first.rollout_id, worker_id="starter"))
        await do(load, client, second)
        load.seen[first.rollout_id] += 1


async def tune(load: Load, client: LightningStoreClient) -> None:
    for name in load.new():
        added = await load.acknowledged(client.add_resources({"prompt": PromptTemplate(template=name)}))
        load.resources[added.resources_id, added.version] = name
        again = {"prompt": PromptTemplate(template=f"{name} again")}
        updated = await load.acknowledged(client.update_resources(added.resources_id, again))
        load.resources[updated.resources_id, updated.version] = f"{name} again"


async def check_point(load: Load, client: LightningStoreClient) -> None:
    for name in load.new():
        run = await load.acknowledged(client.create_run(name))
        await load.acknowledged(client.update_run(run.run_id, checkpoint=name))
        load.checkpoints[run.run_id] = f'"{name}"'


async def work(load: Load, client: LightningStoreClient) -> None:
    """Claim two at a time, do the first and give the second back; do it when there is no other."""
    while True:
        claimed = await load.acknowledged(client.dequeue_many_rollouts(limit=2, worker_id="worker", wait_seconds=5))
        for unstarted in claimed[1:]:
            ref = pb.AttemptRef(rollout_id=unstarted.rollout_id, attempt_id=unstarted.attempt.attempt_id)
            await load.acknowledged(client._call("ReleaseAttempts", pb.ReleaseAttemptsRequest(attempts=[ref])))
        for rollout in claimed[:1]:
            await do(load, client, rollout)


async def do(load: Load, client: LightningStoreClient, claimed: AttemptedRollout) -> None:
    ids = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id}
    *before, last = [
        Span.from_attributes(attributes={"task": claimed.input}, name=f"step {number}", **ids)
        for number in range(SPANS_BEFORE + SPANS_WITH_THE_END)
    ]
    await load.acknowledged(client.add_many_spans(before))
    await load.acknowledged(client.complete_attempt(**ids, spans=[last]))
    load.completed.append(claimed.attempt.attempt_id)


PRODUCERS = (produce_and_wait, produce_and_wait, produce_and_wait, cancel, start, tune, check_point)
WORKERS = (work, work, work, work)


class Kept:
    """What is in the file after all."""

    def __init__(self, database: Path) -> None:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            self.tasks = dict(connection.execute("SELECT rollout_id, input_json FROM rollouts"))
            self.statuses = dict(connection.execute("SELECT rollout_id, status FROM rollouts"))
            self.succeeded = dict(
                connection.execute("SELECT attempt_id, rollout_id FROM attempts WHERE status = 'succeeded'")
            )
            self.spans = Counter(row[0] for row in connection.execute("SELECT attempt_id FROM spans"))
            resources = [Resources.FromString(row[0]) for row in connection.execute("SELECT resources FROM resources")]
            runs = [Run.FromString(row[0]) for row in connection.execute("SELECT run FROM runs")]
        self.templates = {
            (each.resources_id, each.version): each.resources[0].prompt_template.template for each in resources
        }
        self.checkpoints = {run.run_id: run.checkpoint_json for run in runs}
        self.algorithms = [run.algorithm for run in runs]

    def lost(self, load: Load) -> list[object]:
        """Acknowledged, and not there or not so."""
        tasks = {rollout_id: f'"{task}"' for rollout_id, task in load.enqueued.items()}
        statuses = dict.fromkeys(load.cancelled, "cancelled")
        pairs = (
            (tasks, self.tasks),
            (statuses, self.statuses),
            (load.resources, self.templates),
            (load.checkpoints, self.checkpoints),
            (dict.fromkeys(load.completed, True), dict.fromkeys(self.succeeded, True)),
        )
        return [item for told, kept in pairs for item in told.items() if item not in kept.items()]

    def doubled(self) -> list[object]:
        """There twice, of one call."""
        once = (self.tasks.values(), self.templates.values(), self.algorithms, self.succeeded.values())
        return [what for those in once for what, count in Counter(those).items() if count > 1]


async def test_nothing_acknowledged_is_lost_and_nothing_is_done_twice(
    serve: Callable[..., Any],
    faults_in: Callable[[Path], list[str]],
    times: Callable[[int, int], int],
    tell: Callable[[str], None],
) -> None:
    server = serve()
    address, port = server.address, server.port
    load, chance, kills, faults = Load(), random.Random(0), times(5, 25), list[str]()
    client = LightningStoreClient(address, retry_seconds=60)
    async with asyncio.TaskGroup() as tasks:
        producers = [tasks.create_task(produce(load, client)) for produce in PRODUCERS]
        workers = [tasks.create_task(work(load, client)) for work in WORKERS]
        for _ in range(kills):
            await load.wait_for(chance.choice(CALLS_BETWEEN_KILLS))
            await asyncio.to_thread(server.kill)
            faults += await asyncio.to_thread(faults_in, server.database)
            server = await asyncio.to_thread(serve, port=port)
        load.enough.set()
        await asyncio.wait(producers, timeout=60)
        for task in (*producers, *workers):
            task.cancel()
    await client.close()
    server.send(15)
    assert server.wait() == 0

    kept = Kept(server.database)
    lost, doubled = kept.lost(load), kept.doubled()
    stuck = [rollout for rollout in load.enqueued if kept.statuses.get(rollout) not in ("succeeded", "cancelled")]
    missed = load.enqueued.keys() - load.seen.keys()
    told_twice = [rollout for rollout, count in load.seen.items() if count > 1]
    incomplete = [attempt for attempt in kept.succeeded if kept.spans[attempt] != SPANS_BEFORE + SPANS_WITH_THE_END]
    tell(
        f"server killed {kills} times: {load.calls} calls acknowledged, of them {len(load.enqueued)} rollouts, "
        f"{len(load.completed)} completions, {len(load.cancelled)} cancellations, {len(load.resources)} resources, "
        f"{len(load.checkpoints)} runs: {len(lost)} lost, {len(doubled)} doubled, {len(stuck)} stuck, {len(missed)} "
        f"ends not told, {len(told_twice)} told twice, {len(incomplete)} attempts with spans missing or doubled, "
        f"{len(faults)} faults in the file after a kill"
    )
    assert (faults, lost, doubled, stuck, missed, told_twice, incomplete) == ([], [], [], [], set(), [], [])
    assert faults_in(server.database) == []
