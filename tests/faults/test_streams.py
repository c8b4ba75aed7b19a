"""A thousand waiters that come and go, or only wait: they cost nothing while they wait and leave nothing behind."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.rollout_pb2 import Rollout
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf.duration_pb2 import Duration

BOUND = 10
CONNECTIONS = 10
MEMORY_ALLOWANCE = 24
"""MiB that the server may have grown by after the last round, counted from after the first."""
LONG = Duration(seconds=50)


async def wait_for_rollouts(stub: Any, rollout_id: str) -> Any:
    """A stream that has said what is pending."""
    call = stub.WaitRollouts(pb.WaitRolloutsRequest(rollout_ids=[rollout_id], wait_timeout=LONG))
    await call.read()
    return call


async def wait_for_work(stub: Any, rollout_id: str) -> Any:
    """A long poll."""
    request = pb.DequeueRolloutsRequest(worker_id="w", queue="idle", wait_timeout=LONG)
    return stub.DequeueRollouts(request)


async def have_work_pushed(stub: Any, rollout_id: str) -> Any:
    """A worker's stream, open and in line."""
    call = stub.StreamDequeue()
    await call.write(pb.StreamDequeueRequest(open={"worker_id": "w", "queue": "idle", "credits": 1}))
    await call.read()
    return call


async def watch(stub: Any, rollout_id: str) -> Any:
    """A watch that has said where the store stands."""
    call = stub.Watch(pb.WatchRequest(queue="idle"))
    await call.read()
    return call


WAITS = [wait_for_rollouts, wait_for_work, have_work_pushed, watch]
any_wait = pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)


@asynccontextmanager
async def stubs_at(address: str, count: int) -> AsyncIterator[list[Any]]:
    """Stubs that have a connection each."""
    async with AsyncExitStack() as channels:
        options = (("grpc.use_local_subchannel_pool", 1),)
        opened = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
        yield [StoreServiceStub(await channels.enter_async_context(channel)) for channel in opened]


async def enqueue(stub: Any, queue: str) -> str:
    request = pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1", queue=queue)])
    return str((await stub.EnqueueRollouts(request)).rollouts[0].rollout_id)


async def is_quiet(server: Any, seconds: float = 0.1) -> None:
    """Returns once the server has done nothing for a while: it has seen to all who came and went."""
    used = -1.0
    while used != server.cpu_seconds:
        used = server.cpu_seconds
        await asyncio.sleep(seconds)


async def come_and_go(
    server: Any, wait: Callable[[Any, str], Any], rollout_id: str, count: int, is_cancelled: bool
) -> None:
    """Begin to wait so many times, over several connections, and then cancel, or else close the connections."""
    async with stubs_at(server.address, CONNECTIONS) as stubs:
        calls = await asyncio.gather(*(wait(stubs[number % CONNECTIONS], rollout_id) for number in range(count)))
        await is_quiet(server)
        for call in calls if is_cancelled else ():
            call.cancel()
    gc.collect()  # a call that is held holds its connection open


async def works(stub: Any, queue: str) -> bool:
    """Whether who waits is still told: of work in a queue, and of an end."""
    request = pb.DequeueRolloutsRequest(worker_id="w", queue=queue, wait_timeout=LONG)
    waiting = asyncio.ensure_future(stub.DequeueRollouts(request))
    rollout_id = await enqueue(stub, queue)
    told = stub.WaitRollouts(pb.WaitRolloutsRequest(rollout_ids=[rollout_id]))
    async with asyncio.timeout(BOUND):
        [assignment] = (await waiting).assignments
        ids = {"rollout_id": rollout_id, "attempt_id": assignment.attempt.attempt_id}
        await stub.CompleteAttempt(pb.CompleteAttemptRequest(**ids, succeeded={}))
        ended = [rollout.rollout_id async for message in told for rollout in message.rollouts]
    return ended == [assignment.rollout.rollout_id]


@any_wait
async def test_waiters_that_come_and_go_leave_nothing_behind(
    serve: Callable[..., Any],
    times: Callable[[int, int], int],
    tell: Callable[[str], None],
    wait: Callable[[Any, str], Any],
) -> None:
    """They cancel, and every other round they just close their connections."""
    server, count, rounds = serve(), times(100, 1000), times(3, 20)
    memory, files = [server.memory], [server.open_files]
    async with stubs_at(server.address, 1) as [stub]:
        rollout_id = await enqueue(stub, "never")
        for number in range(rounds):
            await come_and_go(server, wait, rollout_id, count, is_cancelled=number % 2 == 0)
            await is_quiet(server)
            memory.append(server.memory)
            files.append(server.open_files)
        assert await works(stub, "idle")
    tell(
        f"{wait.__name__}: {rounds} times {count} came and went: server's memory {memory[0]:.0f} MiB, {memory[1]:.0f} "
        f"after the first, {max(memory):.0f} at most, {memory[-1]:.0f} at last; open files {files[1]} after the first, "
        f"{files[-1]} at last"
    )
    assert memory[-1] < memory[1] + MEMORY_ALLOWANCE
    assert files[-1] <= files[1]


@any_wait
async def test_waiters_that_only_wait_are_told_when_it_is_time(
    serve: Callable[..., Any],
    times: Callable[[int, int], int],
    tell: Callable[[str], None],
    wait: Callable[[Any, str], Any],
) -> None:
    server, count, seconds = serve(), times(100, 1000), times(3, 50) / 10
    async with stubs_at(server.address, CONNECTIONS) as stubs:
        rollout_id = await enqueue(stubs[0], "never")
        calls = await asyncio.gather(*(wait(stubs[number % CONNECTIONS], rollout_id) for number in range(count)))
        await is_quiet(server)
        before = server.cpu_seconds
        await asyncio.sleep(seconds)
        used = server.cpu_seconds - before
        assert await works(stubs[0], "lively")
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()
    tell(f"{wait.__name__}: {count} only waiting: the server used {used / seconds:.1%} of a core")
