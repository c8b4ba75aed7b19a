"""The lists over a real socket: what each is filtered and sorted by, how it pages, and what it refuses."""

import math
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from agentlightning.semconv import PRIMARY_REWARD_VALUE
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Attempt
from agentlightning.v1.resources_pb2 import Resource, Resources
from agentlightning.v1.rollout_pb2 import RolloutStatus
from agentlightning.v1.run_pb2 import Run
from agentlightning.v1.span_pb2 import Attribute, AttributeValue, Span
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

OR = pb.FilterLogic.FILTER_LOGIC_OR
SUCCEEDED = pb.CompleteAttemptRequest.Succeeded()
LARGE = '"' + "é" * 400_000 + '"'  # 800 kB on the wire: two of them fit a page, three do not
LARGE_OBJECT = f'{{"x": {LARGE}}}'


def ids(answer: Any) -> list[str]:
    """The rollouts of an answer by what tells them apart in these tests: their task."""
    return [rollout.input_json for rollout in answer.rollouts]


def span(rollout_id: str, attempt_id: str, number: int, name: str, parent: int = 0) -> Span:
    return Span(
        rollout_id=rollout_id,
        attempt_id=attempt_id,
        trace_id=f"{number % 2:032x}",
        span_id=f"{number:016x}",
        parent_span_id=f"{parent:016x}" if parent else "",
        name=name,
        start_time=Timestamp(seconds=100 - number) if number != 3 else None,
    )


async def finish(server: Any, reward: float | None) -> None:
    """Take the first rollout and complete it with a reward."""
    assignment = await server.dequeue()
    attempt = {"rollout_id": assignment.rollout.rollout_id, "attempt_id": assignment.attempt.attempt_id}
    spans = []
    if reward is not None:
        value = AttributeValue(double_value=reward)
        spans = [span(**attempt, number=1, name="reward")]
        spans[0].attributes.append(Attribute(key=PRIMARY_REWARD_VALUE, value=value))
    await server.stub.CompleteAttempt(pb.CompleteAttemptRequest(**attempt, succeeded=SUCCEEDED, spans=spans))


async def test_rollouts_show_their_final_reward_and_are_filtered_and_sorted_by_it(server: Any) -> None:
    await server.enqueue("1", "2", "3", "4", "5")
    for reward in (0.5, -1.0, None, 1.0):
        await finish(server, reward)

    async def found(**fields: Any) -> list[tuple[str, float | None]]:
        rollouts = (await server.stub.ListRollouts(pb.ListRolloutsRequest(**fields))).rollouts
        last = [(rollout.input_json, rollout.latest_attempt) for rollout in rollouts]
        return [(task, attempt.final_reward if attempt.HasField("final_reward") else None) for task, attempt in last]

    assert await found(order_by="final_reward desc") == [("4", 1), ("1", 0.5), ("2", -1), ("5", None), ("3", None)]
    assert await found(min_final_reward=0.5) == [("1", 0.5), ("4", 1)]
    assert await found(max_final_reward=0) == [("2", -1)]
    assert await found(min_final_reward=-math.inf, order_by="final_reward") == [("2", -1), ("1", 0.5), ("4", 1)]


async def test_what_has_no_end_yet_comes_last_and_equals_come_as_they_were_created(server: Any) -> None:
    await server.enqueue("1", "2", "3")
    await finish(server, None)
    answer = await server.stub.ListRollouts(pb.ListRolloutsRequest(order_by="end_time"))
    assert ids(answer) == ["1", "2", "3"]
    answer = await server.stub.ListRollouts(pb.ListRolloutsRequest(order_by="end_time desc"))
    assert ids(answer) == ["3", "2", "1"]


async def test_one_filter_of_several_is_enough_when_asked_and_the_scope_holds_all_the_same(server: Any) -> None:
    first, second, _ = await server.enqueue("1", "2", "3")
    [elsewhere] = await server.enqueue("4", queue="elsewhere")
    await server.dequeue()
    running = RolloutStatus.ROLLOUT_STATUS_PREPARING

    async def found(**fields: Any) -> list[str]:
        return ids(await server.stub.ListRollouts(pb.ListRolloutsRequest(queue="default", **fields)))

    assert await found(statuses=[running], rollout_ids=[second.rollout_id, elsewhere.rollout_id]) == []
    assert await found(statuses=[running], rollout_ids=[second.rollout_id, elsewhere.rollout_id], filter_logic=OR) == [
        "1",
        "2",
    ]
    assert await found(filter_logic=OR) == ["1", "2", "3"]
    assert await found(rollout_id_contains=first.rollout_id[3:12], filter_logic=OR) == ["1"]


async def test_labels_must_all_be_there_with_their_values(server: Any) -> None:
    await server.enqueue("1", labels={"by": "É\"'", "kind": "a"})
    await server.enqueue("2", labels={"by": "é", "kind": "a"})

    async def found(**labels: str) -> list[str]:
        return ids(await server.stub.ListRollouts(pb.ListRolloutsRequest(labels=labels)))

    assert await found(kind="a") == ["1", "2"]
    assert await found(kind="a", by="É\"'") == ["1"]
    assert await found(kind="a", other="") == []


async def test_attempts_are_sorted_skipped_and_counted(server: Any) -> None:
    [rollout] = await server.enqueue("1")
    for worker_id in ("b", "", "a"):
        request = pb.StartAttemptRequest(rollout_id=rollout.rollout_id, worker_id=worker_id)
        await server.stub.StartAttempt(request)

    async def found(**fields: Any) -> tuple[list[str], int]:
        answer = await server.stub.ListAttempts(pb.ListAttemptsRequest(rollout_id=rollout.rollout_id, **fields))
        return [attempt.worker_id for attempt in answer.attempts], answer.total_size

    assert await found() == (["b", "", "a"], 0)
    assert await found(order_by="worker_id") == (["", "a", "b"], 0)
    assert await found(order_by="end_time desc") == (["a", "", "b"], 0)
    assert await found(skip=1, page_size=1, count_total=True) == ([""], 3)


async def test_spans_are_filtered_by_what_they_say(server: Any) -> None:
    await server.enqueue("1")
    first = (await server.dequeue()).attempt
    attempt = (await server.stub.StartAttempt(pb.StartAttemptRequest(rollout_id=first.rollout_id))).assignment.attempt
    names = ("Plan 100%", "plan", "search")
    spans = [span(first.rollout_id, attempt.attempt_id, n, name, n - 1) for n, name in enumerate(names, start=1)]
    old = span(first.rollout_id, first.attempt_id, 4, "plan")
    await server.stub.AddSpans(pb.AddSpansRequest(spans=[*spans, old]))

    async def found(**fields: Any) -> list[int]:
        answer = await server.stub.ListSpans(pb.ListSpansRequest(rollout_id=first.rollout_id, **fields))
        return [int(found.span_id, 16) for found in answer.spans]

    assert await found() == [1, 2, 3, 4]
    assert await found(attempt_id="latest") == [1, 2, 3]
    assert await found(name="plan") == [2, 4]
    assert await found(name_contains="lan") == [1, 2, 4]
    assert await found(name_contains="Plan") == [1]
    assert await found(name_contains="%") == [1]
    assert await found(parent_span_id=f"{1:016x}") == [2]
    assert await found(span_id_contains="3", name="plan") == []
    assert await found(span_id_contains="3", name="plan", filter_logic=OR) == [2, 3, 4]
    assert await found(span_id_contains="3", name="plan", filter_logic=OR, attempt_id="latest") == [2, 3]
    assert await found(trace_id=f"{1:032x}", order_by="start_time") == [1, 3]
    assert await found(order_by="start_time") == [4, 2, 1, 3]
    assert await found(order_by="parent_span_id desc") == [3, 2, 4, 1]


async def test_resources_are_listed_by_their_last_version_or_by_every_one(server: Any) -> None:
    async def write(resources_id: str, text: str, run_id: str = "") -> None:
        resources = Resources(
            resources_id=resources_id, run_id=run_id, resources=[Resource(name="p", custom_json=text)]
        )
        await server.stub.UpdateResources(pb.UpdateResourcesRequest(resources=resources))

    async def found(**fields: Any) -> list[tuple[str, int]]:
        answer = await server.stub.ListResources(pb.ListResourcesRequest(**fields))
        return [(found.resources_id, found.version) for found in answer.resources]

    await write("b", "1", run_id="run")
    await write("a", "2")
    await write("b", "3")
    assert await found() == [("a", 1), ("b", 2)]
    assert await found(resources_id="b") == [("b", 2)]
    assert await found(resources_id="b", all_versions=True) == [("b", 1), ("b", 2)]
    assert await found(all_versions=True, order_by="resources_id desc") == [("b", 2), ("b", 1), ("a", 1)]
    assert await found(run_id="run") == []
    assert await found(run_id="run", all_versions=True) == [("b", 1)]
    assert await found(resources_id_contains="B") == []


async def test_runs_are_filtered_by_what_they_are_now(server: Any) -> None:
    async def create(**fields: Any) -> Run:
        return (await server.stub.CreateRun(pb.CreateRunRequest(run=Run(**fields)))).run

    async def found(**fields: Any) -> list[str]:
        return [run.run_id for run in (await server.stub.ListRuns(pb.ListRunsRequest(**fields))).runs]

    first, second = await create(algorithm="APO", labels={"a": "1"}), await create(algorithm="baseline")
    assert await found() == [second.run_id, first.run_id]
    assert await found(algorithm="APO") == [first.run_id]
    assert await found(labels={"a": "1"}) == [first.run_id]
    changed = Run(run_id=second.run_id, labels={"a": "1"}, status="RUN_STATUS_FAILED")
    mask = {"paths": ["labels", "status"]}
    await server.stub.UpdateRun(pb.UpdateRunRequest(run=changed, update_mask=mask))
    assert await found(labels={"a": "1"}) == [second.run_id, first.run_id]
    assert await found(statuses=["RUN_STATUS_FAILED"]) == [second.run_id]


async def test_workers_are_filtered_by_status_and_name(server: Any) -> None:
    for worker_id in ("gpu-1", "cpu-1"):
        await server.stub.UpdateWorker(pb.UpdateWorkerRequest(worker_id=worker_id))
    await server.enqueue("1")
    await server.dequeue(worker_id="cpu-2")

    async def found(**fields: Any) -> list[str]:
        return [worker.worker_id for worker in (await server.stub.ListWorkers(pb.ListWorkersRequest(**fields))).workers]

    assert await found() == ["cpu-1", "cpu-2", "gpu-1"]
    assert await found(statuses=["WORKER_STATUS_BUSY"]) == ["cpu-2"]
    assert await found(statuses=["WORKER_STATUS_BUSY"], worker_id_contains="gpu") == []
    assert await found(statuses=["WORKER_STATUS_BUSY"], worker_id_contains="gpu", filter_logic=OR) == ["cpu-2", "gpu-1"]
    assert await found(order_by="last_heartbeat_time desc", skip=1) == ["gpu-1", "cpu-1"]
    assert await found(order_by="status") == ["cpu-2", "cpu-1", "gpu-1"]


async def large_rollouts(server: Any) -> pb.ListRolloutsRequest:
    await server.enqueue(LARGE, LARGE, LARGE)
    return pb.ListRolloutsRequest()


async def large_attempts(server: Any) -> pb.ListAttemptsRequest:
    [rollout] = await server.enqueue("1")
    for _ in range(3):
        await server.stub.StartAttempt(pb.StartAttemptRequest(rollout_id=rollout.rollout_id))
        attempt = Attempt(rollout_id=rollout.rollout_id, attempt_id="latest", metadata_json=LARGE_OBJECT)
        mask = {"paths": ["metadata_json"]}
        await server.stub.UpdateAttempt(pb.UpdateAttemptRequest(attempt=attempt, update_mask=mask))
    return pb.ListAttemptsRequest(rollout_id=rollout.rollout_id)


async def large_spans(server: Any) -> pb.ListSpansRequest:
    await server.enqueue("1")
    attempt = (await server.dequeue()).attempt
    spans = [span(attempt.rollout_id, attempt.attempt_id, number, LARGE) for number in range(1, 4)]
    await server.stub.AddSpans(pb.AddSpansRequest(spans=spans))
    return pb.ListSpansRequest(rollout_id=attempt.rollout_id)


async def large_resources(server: Any) -> pb.ListResourcesRequest:
    for _ in range(3):
        resources = Resources(resources=[Resource(name="p", custom_json=LARGE)])
        await server.stub.AddResources(pb.AddResourcesRequest(resources=resources))
    return pb.ListResourcesRequest()


async def large_runs(server: Any) -> pb.ListRunsRequest:
    for _ in range(3):
        await server.stub.CreateRun(pb.CreateRunRequest(run=Run(config_json=LARGE)))
    return pb.ListRunsRequest()


async def large_workers(server: Any) -> pb.ListWorkersRequest:
    for number in range(3):
        request = pb.UpdateWorkerRequest(worker_id=f"w-{number}", heartbeat_stats_json=LARGE_OBJECT)
        await server.stub.UpdateWorker(request)
    return pb.ListWorkersRequest()


@pytest.mark.parametrize(
    "fill", [large_rollouts, large_attempts, large_spans, large_resources, large_runs, large_workers]
)
async def test_a_page_ends_early_where_it_would_be_too_large_for_a_message(
    server: Any, fill: Callable[[Any], Any]
) -> None:
    request = await fill(server)
    noun = type(request).__name__.removeprefix("List").removesuffix("Request")
    sizes = []
    while True:
        page = await getattr(server.stub, f"List{noun}")(request)
        assert page.ByteSize() < 2 << 20
        sizes.append(len(getattr(page, noun.lower())))
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sizes == [2, 1]


@pytest.mark.parametrize(
    ("request_", "orders"),
    [
        (pb.ListRolloutsRequest(), ("final_reward", "create_time", "mode")),
        (pb.ListAttemptsRequest(), ("sequence_id", "last_heartbeat_time")),
        (pb.ListSpansRequest(), ("sequence_id", "parent_span_id")),
        (pb.ListResourcesRequest(), ("revision", "update_time")),
        (pb.ListWorkersRequest(), ("worker_id", "current_attempt_id")),
    ],
    ids=["rollouts", "attempts", "spans", "resources", "workers"],
)
@pytest.mark.parametrize("order_by", ["colour", "colour_time desc", "span", " desc", "1; DROP TABLE spans"])
async def test_an_order_that_is_none_is_refused_with_those_there_are(
    server: Any, request_: Any, orders: tuple[str, ...], order_by: str
) -> None:
    request_.order_by = order_by
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(server.stub, type(request_).__name__.removesuffix("Request"))(request_)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    about = error_info(refusal.value)
    assert (about.reason, about.metadata["field"], about.metadata["value"]) == ("FIELD_INVALID", "order_by", order_by)
    assert all(order in about.metadata["expected"] for order in orders)


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    [raw] = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    about = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(about) for detail in status_pb2.Status.FromString(raw).details)
    return about


async def test_a_page_token_of_another_order_is_refused_by_name(server: Any) -> None:
    await server.enqueue("1", "2")
    first = await server.stub.ListRollouts(pb.ListRolloutsRequest(page_size=1))
    request = pb.ListRolloutsRequest(page_size=1, order_by="create_time desc", page_token=first.next_page_token)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await server.stub.ListRollouts(request)
    assert error_info(refusal.value).reason == "PAGE_TOKEN_INVALID"


async def test_an_order_may_be_named_in_full_between_pages(server: Any) -> None:
    await server.enqueue("1", "2")
    first = await server.stub.ListRollouts(pb.ListRolloutsRequest(page_size=1))
    rest = pb.ListRolloutsRequest(order_by="create_time asc", page_token=first.next_page_token, page_size=5)
    assert ids(await server.stub.ListRollouts(rest)) == ["2"]


async def test_a_page_holds_a_hundred_when_nobody_says_how_many(server: Any) -> None:
    await server.enqueue(*map(str, range(101)))
    page = await server.stub.ListRollouts(pb.ListRolloutsRequest(count_total=True))
    assert (len(page.rollouts), page.total_size, bool(page.next_page_token)) == (100, 101, True)
