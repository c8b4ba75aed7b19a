"""One call that claims for several workers: each has its own attempts, and is known by its own name."""

from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.rollout_pb2 import Assignment
from agentlightning.v1.worker_pb2 import Worker, WorkerStatus
from google.rpc import error_details_pb2, status_pb2

WORKERS = ["w-1", "w-2", "w-3"]


async def claim(server: Any, workers: list[str], **fields: Any) -> list[Assignment]:
    request = pb.DequeueRolloutsRequest(worker_ids=workers, **fields)
    return list((await server.stub.DequeueRollouts(request)).assignments)


async def record(server: Any, worker_id: str) -> Worker:
    worker: Worker = (await server.stub.GetWorker(pb.GetWorkerRequest(worker_id=worker_id))).worker
    return worker


def who_has_what(claimed: list[Assignment]) -> list[tuple[str, str]]:
    return [(one.attempt.worker_id, one.rollout.input_json) for one in claimed]


async def refused_field(server: Any, workers: list[str], **fields: Any) -> tuple[grpc.StatusCode, str]:
    """How a claim is refused, and for which of its fields."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await claim(server, workers, **fields)
    [raw] = [value for key, value in refusal.value.trailing_metadata() or () if key == "grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status_pb2.Status.FromString(raw).details)
    return refusal.value.code(), info.metadata["field"]


async def test_each_worker_is_given_one_in_the_order_in_which_they_are_named(server: Any) -> None:
    await server.enqueue("1", "2", "3", "4")
    assert who_has_what(await claim(server, WORKERS)) == [("w-1", "1"), ("w-2", "2"), ("w-3", "3")]


async def test_each_worker_is_given_as_many_as_are_asked_for_one(server: Any) -> None:
    await server.enqueue("1", "2", "3", "4", "5")
    claimed = await claim(server, ["w-1", "w-2"], max_rollouts=2)
    assert who_has_what(claimed) == [("w-1", "1"), ("w-1", "2"), ("w-2", "3"), ("w-2", "4")]


async def test_a_worker_that_is_named_twice_is_given_two(server: Any) -> None:
    await server.enqueue("1", "2", "3")
    claimed = await claim(server, ["w-1", "w-2", "w-1"])
    assert who_has_what(claimed) == [("w-1", "1"), ("w-2", "2"), ("w-1", "3")]


async def test_where_there_are_too_few_the_last_workers_are_given_none(server: Any) -> None:
    await server.enqueue("1", "2")
    assert who_has_what(await claim(server, WORKERS)) == [("w-1", "1"), ("w-2", "2")]


async def test_more_than_one_answer_holds_is_left_in_the_queue(server: Any) -> None:
    large = '"' + "x" * 400_000 + '"'
    await server.enqueue(*[large] * 4)
    first = await claim(server, [*WORKERS, "w-4"])
    rest = await claim(server, ["w-4"])
    assert [one.attempt.worker_id for one in [*first, *rest]] == [*WORKERS, "w-4"]


async def test_a_worker_is_busy_with_its_own_attempt(server: Any) -> None:
    await server.enqueue("1", "2", "3")
    claimed = await claim(server, WORKERS)
    workers = [await record(server, worker_id) for worker_id in WORKERS]
    assert [(one.status, one.current_rollout_id, one.current_attempt_id) for one in workers] == [
        (WorkerStatus.WORKER_STATUS_BUSY, one.rollout.rollout_id, one.attempt.attempt_id) for one in claimed
    ]


async def test_a_worker_that_was_given_none_is_idle(server: Any) -> None:
    await server.enqueue("1")
    await claim(server, ["w-1", "w-2"])
    worker = await record(server, "w-2")
    assert (worker.status, worker.current_attempt_id) == (WorkerStatus.WORKER_STATUS_IDLE, "")


async def test_every_worker_is_known_to_have_asked(server: Any) -> None:
    await claim(server, WORKERS)
    workers = (await server.stub.ListWorkers(pb.ListWorkersRequest())).workers
    assert [(one.worker_id, one.HasField("last_dequeue_time")) for one in workers] == [(one, True) for one in WORKERS]


async def test_a_repeat_is_answered_as_the_first_was(server: Any) -> None:
    await server.enqueue("1", "2", "3", "4")
    first = await claim(server, ["w-1", "w-2"], request_id="once")
    assert await claim(server, ["w-1", "w-2"], request_id="once") == first


async def test_the_same_request_id_for_other_workers_is_refused(server: Any) -> None:
    await server.enqueue("1", "2")
    await claim(server, ["w-1"], request_id="once")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await claim(server, ["w-2"], request_id="once")
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_one_worker_beside_several_is_refused_by_name(server: Any) -> None:
    refusal = await refused_field(server, ["w-1"], worker_id="w-2")
    assert refusal == (grpc.StatusCode.INVALID_ARGUMENT, "worker_id")


@pytest.mark.parametrize(("workers", "each"), [(1001, 0), (1001, 1), (501, 2)])
async def test_more_than_a_call_claims_is_refused_by_name(server: Any, workers: int, each: int) -> None:
    refusal = await refused_field(server, [f"w-{number}" for number in range(workers)], max_rollouts=each)
    assert refusal == (grpc.StatusCode.INVALID_ARGUMENT, "worker_ids")


async def test_as_much_as_a_call_claims_is_claimed(server: Any) -> None:
    await server.enqueue(*["1"] * 1000)
    assert len(await claim(server, [f"w-{number}" for number in range(1000)])) == 1000
