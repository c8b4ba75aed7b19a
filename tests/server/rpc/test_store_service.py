"""The protocol over a real socket: what each call promises, at the edges that a client in any language will meet."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.attempt_pb2 import Attempt, AttemptStatus, Failure, FailureKind
from agentlightning.v1.resources_pb2 import PromptTemplate, Resource, Resources
from agentlightning.v1.rollout_pb2 import RetryPolicy, Rollout, RolloutConfig, RolloutStatus
from agentlightning.v1.run_pb2 import Run, RunStatus
from agentlightning.v1.span_pb2 import Attribute, AttributeValue, Span
from agentlightning_server.clock import SECOND
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

SUCCEEDED = pb.CompleteAttemptRequest.Succeeded()


def details_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    [raw] = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    found: dict[str, Any] = {}
    for detail in status_pb2.Status.FromString(raw).details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            message = kind()
            if detail.Unpack(message):
                found[kind.__name__] = message
    return found


def ref(assignment: Any) -> dict[str, str]:
    return {"rollout_id": assignment.attempt.rollout_id, "attempt_id": assignment.attempt.attempt_id}


def span(assignment: Any, number: int = 1, **fields: Any) -> Span:
    return Span(**ref(assignment), trace_id=f"{number:032x}", span_id=f"{number:016x}", name="work", **fields)


async def test_tasks_are_delivered_first_come_first_served_within_a_priority(server: Any) -> None:
    await server.enqueue("1", "2")
    await server.enqueue("3", priority=5)
    assert [(await server.dequeue()).rollout.input_json for _ in range(3)] == ["3", "1", "2"]


async def test_json_is_kept_to_the_byte(server: Any) -> None:
    text = '{"b": 12345678901234567890, "a": 1.10, "b": "\\u00e9é"}'
    [rollout] = await server.enqueue(text)
    assert (await server.get(rollout.rollout_id)).input_json == text


@pytest.mark.parametrize("text", ["", "{bad", "NaN", "1e999", '{"a": Infinity}', "[" * 100_000])
async def test_what_is_not_json_is_refused_by_field_and_enqueues_nothing(server: Any, text: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await server.enqueue("1", text)
    details = details_of(refusal.value)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details["ErrorInfo"].reason == "FIELD_INVALID"
    assert details["BadRequest"].field_violations[0].field == "rollouts[1].input_json"
    assert await server.dequeue() is None


async def test_a_repeated_request_is_answered_as_the_first(server: Any) -> None:
    request = pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1")], request_id="once")
    assert await server.stub.EnqueueRollouts(request) == await server.stub.EnqueueRollouts(request)
    assert await server.dequeue() is not None
    assert await server.dequeue() is None


async def test_a_request_id_used_for_something_else_is_refused(server: Any) -> None:
    await server.stub.CreateRun(pb.CreateRunRequest(run=Run(algorithm="APO"), request_id="once"))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await server.stub.CreateRun(pb.CreateRunRequest(run=Run(algorithm="other"), request_id="once"))
    assert details_of(refusal.value)["ErrorInfo"].reason == "REQUEST_ID_REUSED"


async def test_a_repeated_claim_gives_what_is_still_leased_and_claims_nothing_more(server: Any) -> None:
    await server.enqueue("1", "2", "3")
    request = pb.DequeueRolloutsRequest(max_rollouts=2, request_id="claim")
    first, second = (await server.stub.DequeueRollouts(request)).assignments
    await server.stub.CompleteAttempt(pb.CompleteAttemptRequest(**ref(first), succeeded=SUCCEEDED))
    again = (await server.stub.DequeueRollouts(request)).assignments
    assert [assignment.attempt.attempt_id for assignment in again] == [second.attempt.attempt_id]


async def test_a_waiting_worker_is_woken_by_what_enters_its_queue_and_no_other(server: Any) -> None:
    mine = asyncio.create_task(server.dequeue(queue="mine", wait_timeout=Duration(seconds=30)))
    other = asyncio.create_task(server.dequeue(queue="other", wait_timeout=Duration(seconds=30)))
    await server.enqueue("1", queue="mine")
    assert (await mine).rollout.queue == "mine"
    assert not other.done()
    other.cancel()


async def test_every_one_of_many_waiting_workers_gets_one_of_as_many_tasks(server: Any) -> None:
    workers = [asyncio.create_task(server.dequeue(wait_timeout=Duration(seconds=30))) for _ in range(20)]
    await server.enqueue(*map(str, range(20)))
    claimed = {assignment.rollout.rollout_id for assignment in await asyncio.gather(*workers)}
    assert len(claimed) == 20


async def test_completion_stores_the_last_spans_with_the_outcome(server: Any) -> None:
    await server.enqueue()
    assignment = await server.dequeue()
    request = pb.CompleteAttemptRequest(**ref(assignment), succeeded=SUCCEEDED, spans=[span(assignment)])
    rollout = (await server.stub.CompleteAttempt(request)).rollout
    spans = (await server.stub.ListSpans(pb.ListSpansRequest(rollout_id=rollout.rollout_id))).spans
    assert rollout.status == RolloutStatus.ROLLOUT_STATUS_SUCCEEDED
    assert [stored.name for stored in spans] == ["work"]
    assert (await server.stub.CompleteAttempt(request)).rollout == rollout


async def test_completion_by_a_superseded_attempt_is_refused_and_stores_nothing(server: Any) -> None:
    await server.enqueue()
    assignment = await server.dequeue()
    await server.stub.StartAttempt(pb.StartAttemptRequest(rollout_id=assignment.rollout.rollout_id))
    request = pb.CompleteAttemptRequest(**ref(assignment), succeeded=SUCCEEDED, spans=[span(assignment)])
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await server.stub.CompleteAttempt(request)
    spans = (await server.stub.ListSpans(pb.ListSpansRequest(rollout_id=assignment.rollout.rollout_id))).spans
    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details_of(refusal.value)["ErrorInfo"].reason == "ATTEMPT_SUPERSEDED"
    assert len(spans) == 0


async def test_a_lost_lease_is_delivered_again_and_says_why(server: Any) -> None:
    await server.enqueue()
    lost = await server.dequeue(worker_id="w", lease_duration=Duration(seconds=10))
    server.clock.advance(10.1)
    again = await server.dequeue()
    attempts = (await server.stub.ListAttempts(pb.ListAttemptsRequest(rollout_id=lost.rollout.rollout_id))).attempts
    assert again.rollout.rollout_id == lost.rollout.rollout_id
    assert [attempt.status for attempt in attempts] == [
        AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE,
        AttemptStatus.ATTEMPT_STATUS_PREPARING,
    ]
    assert attempts[0].failure.kind == FailureKind.FAILURE_KIND_INFRASTRUCTURE
    assert "'w'" in attempts[0].failure.message


async def test_heartbeats_keep_a_lease(server: Any) -> None:
    await server.enqueue()
    assignment = await server.dequeue(lease_duration=Duration(seconds=10))
    for _ in range(5):
        server.clock.advance(8)
        answer = await server.stub.HeartbeatAttempts(pb.HeartbeatAttemptsRequest(attempts=[ref(assignment)]))
        assert answer.results[0].held
    assert await server.dequeue() is None


async def test_a_heartbeat_tells_each_attempt_whether_it_is_still_held(server: Any) -> None:
    await server.enqueue("1", "2")
    held, cancelled = await server.dequeue(), await server.dequeue()
    await server.stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=[cancelled.rollout.rollout_id]))
    refs = [ref(held), ref(cancelled), {"rollout_id": "ro-x", "attempt_id": "at-x"}]
    results = (await server.stub.HeartbeatAttempts(pb.HeartbeatAttemptsRequest(attempts=refs))).results
    assert [(result.held, result.status) for result in results] == [
        (True, AttemptStatus.ATTEMPT_STATUS_RUNNING),
        (False, AttemptStatus.ATTEMPT_STATUS_CANCELLED),
        (False, AttemptStatus.ATTEMPT_STATUS_UNSPECIFIED),
    ]


async def test_released_work_goes_back_to_its_place_and_costs_no_attempt(server: Any) -> None:
    await server.enqueue("1", "2")
    assignment = await server.dequeue()
    await server.stub.ReleaseAttempts(pb.ReleaseAttemptsRequest(attempts=[ref(assignment)]))
    again = await server.dequeue()
    assert again.rollout.input_json == "1"
    failed = pb.CompleteAttemptRequest(**ref(again), failure=Failure(message="x"))
    assert (await server.stub.CompleteAttempt(failed)).rollout.status == RolloutStatus.ROLLOUT_STATUS_FAILED


async def test_a_read_never_shows_a_state_whose_deadline_has_passed(server: Any) -> None:
    [rollout] = await server.enqueue(config=RolloutConfig(timeout=Duration(seconds=1)))
    await server.dequeue()
    server.clock.advance(1.1)
    read = await server.get(rollout.rollout_id)
    assert read.status == RolloutStatus.ROLLOUT_STATUS_FAILED
    assert read.latest_attempt.failure.kind == FailureKind.FAILURE_KIND_TIMEOUT


async def test_a_limit_that_is_set_while_an_attempt_runs_counts_for_it(server: Any) -> None:
    await server.enqueue()
    assignment = await server.dequeue()
    server.clock.advance(5)
    update = pb.UpdateRolloutRequest(
        rollout={"rollout_id": assignment.rollout.rollout_id, "config": {"timeout": Duration(seconds=10)}},
        update_mask={"paths": ["config"]},
    )
    await server.stub.UpdateRollout(update)
    server.clock.advance(5.001)
    rollout = await server.get(assignment.rollout.rollout_id)
    assert rollout.latest_attempt.status == AttemptStatus.ATTEMPT_STATUS_TIMEOUT


async def test_a_heartbeat_time_that_is_set_back_counts_for_silence(server: Any) -> None:
    await server.enqueue(config=RolloutConfig(unresponsive_timeout=Duration(seconds=10)))
    assignment = await server.dequeue()
    update = pb.UpdateAttemptRequest(
        attempt={**ref(assignment), "last_heartbeat_time": Timestamp(seconds=server.clock.now // SECOND - 60)},
        update_mask={"paths": ["last_heartbeat_time"]},
    )
    await server.stub.UpdateAttempt(update)
    rollout = await server.get(assignment.rollout.rollout_id)
    assert rollout.latest_attempt.status == AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE


async def test_silence_beyond_what_the_user_allows_follows_the_retry_rules(server: Any) -> None:
    config = RolloutConfig(
        unresponsive_timeout=Duration(seconds=5),
        max_attempts=2,
        retry_condition=[AttemptStatus.ATTEMPT_STATUS_UNRESPONSIVE],
    )
    [rollout] = await server.enqueue(config=config)
    for expected in (RolloutStatus.ROLLOUT_STATUS_REQUEUING, RolloutStatus.ROLLOUT_STATUS_FAILED):
        await server.dequeue()
        server.clock.advance(5.1)
        assert (await server.get(rollout.rollout_id)).status == expected


async def test_a_late_span_is_evidence_and_revives_nothing(server: Any) -> None:
    await server.enqueue()
    assignment = await server.dequeue()
    await server.stub.CompleteAttempt(pb.CompleteAttemptRequest(**ref(assignment), failure=Failure(message="x")))
    [result] = (await server.stub.AddSpans(pb.AddSpansRequest(spans=[span(assignment)]))).results
    assert result.error_reason == ""
    assert (await server.get(assignment.rollout.rollout_id)).status == RolloutStatus.ROLLOUT_STATUS_FAILED


async def test_a_late_span_is_heard_of_and_renews_no_lease(server: Any) -> None:
    await server.enqueue()
    assignment = await server.dequeue()
    await server.stub.CompleteAttempt(pb.CompleteAttemptRequest(**ref(assignment), failure=Failure(message="x")))
    server.clock.advance(5)
    await server.stub.AddSpans(pb.AddSpansRequest(spans=[span(assignment)]))
    attempt = (await server.get(assignment.rollout.rollout_id)).latest_attempt
    assert attempt.last_heartbeat_time.seconds == attempt.end_time.seconds + 5
    assert not attempt.HasField("lease_expire_time")


async def test_a_rollout_without_attempts_says_so_whichever_is_to_be_updated(server: Any) -> None:
    [rollout] = await server.enqueue()
    for attempt_id in ("latest", "at-0123456789abcdef"):
        request = pb.UpdateAttemptRequest(
            attempt={"rollout_id": rollout.rollout_id, "attempt_id": attempt_id, "worker_id": "w"},
            update_mask={"paths": ["worker_id"]},
        )
        with pytest.raises(grpc.aio.AioRpcError, match=f"No attempts found for rollout {rollout.rollout_id}"):
            await server.stub.UpdateAttempt(request)


async def test_a_bad_span_is_rejected_alone(server: Any) -> None:
    await server.enqueue()
    assignment = await server.dequeue()
    nan = [Attribute(key="x", value=AttributeValue(double_value=float("nan")))]
    spans = [span(assignment, 1), span(assignment, 2, attributes=nan), Span(span_id="zz"), span(assignment, 1)]
    results = (await server.stub.AddSpans(pb.AddSpansRequest(spans=spans))).results
    assert [(result.error_reason, result.duplicate) for result in results] == [
        ("", False),
        ("FIELD_INVALID", False),
        ("FIELD_INVALID", False),
        ("", True),
    ]


async def test_spans_without_a_number_are_numbered_after_those_with_one(server: Any) -> None:
    await server.enqueue()
    assignment = await server.dequeue()
    spans = [span(assignment, 1, sequence_id=7), span(assignment, 2), span(assignment, 3)]
    results = (await server.stub.AddSpans(pb.AddSpansRequest(spans=spans))).results
    assert [result.sequence_id for result in results] == [7, 8, 9]


async def test_resources_are_pinned_when_they_are_there_and_when_they_come(server: Any) -> None:
    [early] = await server.enqueue(resources_id="prompt")
    bundle = Resources(
        resources_id="prompt", resources=[Resource(name="p", prompt_template=PromptTemplate(template="x"))]
    )
    await server.stub.UpdateResources(pb.UpdateResourcesRequest(resources=bundle))
    assert early.resources_version == 0
    assert (await server.dequeue()).rollout.resources_version == 1


async def test_an_update_of_a_run_at_another_revision_is_refused(server: Any) -> None:
    run = (await server.stub.CreateRun(pb.CreateRunRequest(run=Run(algorithm="APO")))).run
    mask = FieldMask(paths=["checkpoint_json"])
    change = Run(run_id=run.run_id, checkpoint_json='{"round": 1}')
    request = pb.UpdateRunRequest(run=change, update_mask=mask, if_revision=run.revision)
    assert (await server.stub.UpdateRun(request)).run.checkpoint_json == '{"round": 1}'
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await server.stub.UpdateRun(request)
    assert refusal.value.code() is grpc.StatusCode.ABORTED


AGENT = RetryPolicy(kind=FailureKind.FAILURE_KIND_AGENT)


def enqueue(*policies: RetryPolicy, max_attempts: int = 3) -> pb.EnqueueRolloutsRequest:
    config = RolloutConfig(max_attempts=max_attempts, retry_policies=policies)
    return pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1", config=config)])


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("DequeueRollouts", pb.DequeueRolloutsRequest(lease_duration=Duration(seconds=-1)), "lease_duration"),
        ("DequeueRollouts", pb.DequeueRolloutsRequest(max_rollouts=-1), "max_rollouts"),
        ("ListRollouts", pb.ListRolloutsRequest(order_by="colour"), "order_by"),
        ("ListRollouts", pb.ListRolloutsRequest(page_size=100_000), "page_size"),
        ("ListRollouts", pb.ListRolloutsRequest(page_token="zzz"), "page_token"),
        ("UpdateRollout", pb.UpdateRolloutRequest(rollout=Rollout(rollout_id="x")), "update_mask"),
        ("UpdateAttempt", pb.UpdateAttemptRequest(attempt=Attempt(), update_mask={"paths": ["colour"]}), "update_mask"),
        (
            "AddResources",
            pb.AddResourcesRequest(resources={"resources": [{"custom_json": "1"}]}),
            "resources.resources[0].name",
        ),
        ("CompleteAttempt", pb.CompleteAttemptRequest(rollout_id="x", attempt_id="y"), "outcome"),
        (
            "CompleteAttempt",
            pb.CompleteAttemptRequest(failure=Failure(kind=FailureKind.FAILURE_KIND_UNRESPONSIVE)),
            "failure.kind",
        ),
        (
            "EnqueueRollouts",
            enqueue(RetryPolicy(kind=FailureKind.FAILURE_KIND_CANCELLED)),
            "rollouts[0].config.retry_policies[0].kind",
        ),
        ("EnqueueRollouts", enqueue(AGENT, AGENT), "rollouts[0].config.retry_policies[0].kind"),
        (
            "EnqueueRollouts",
            enqueue(
                RetryPolicy(
                    kind=FailureKind.FAILURE_KIND_AGENT,
                    initial_backoff=Duration(seconds=10),
                    max_backoff=Duration(seconds=1),
                )
            ),
            "rollouts[0].config.retry_policies[0].max_backoff",
        ),
        (
            "EnqueueRollouts",
            pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1", metadata_json="5")]),
            "rollouts[0].metadata_json",
        ),
        ("UpdateWorker", pb.UpdateWorkerRequest(worker_id="w", heartbeat_stats_json="[]"), "heartbeat_stats_json"),
        (
            "AddResources",
            pb.AddResourcesRequest(resources={"resources": [{"name": "m", "llm": {"sampling_parameters_json": "5"}}]}),
            "resources.resources[0].llm.sampling_parameters_json",
        ),
        (
            "AddResources",
            pb.AddResourcesRequest(resources={"resources": [{"name": "p", "prompt_template": {"engine": 99}}]}),
            "resources.resources[0].prompt_template.engine",
        ),
        ("CompleteAttempt", pb.CompleteAttemptRequest(succeeded={}, lost_span_count=-1), "lost_span_count"),
        ("BackupDatabase", pb.BackupDatabaseRequest(file_name="monday.db-journal"), "file_name"),
        ("EnqueueRollouts", enqueue(AGENT, max_attempts=1), "rollouts[0].config.max_attempts"),
        (
            "EnqueueRollouts",
            enqueue(RetryPolicy(kind=FailureKind.FAILURE_KIND_INFRASTRUCTURE, max_retries=1)),
            "rollouts[0].config.retry_policies[0].max_retries",
        ),
        (
            "EnqueueRollouts",
            enqueue(RetryPolicy(kind=FailureKind.FAILURE_KIND_AGENT, backoff_multiplier=0.5)),
            "rollouts[0].config.retry_policies[0].backoff_multiplier",
        ),
    ],
)
async def test_bad_input_names_the_field(server: Any, method: str, request_: Any, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(server.stub, method)(request_)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(refusal.value)["BadRequest"].field_violations[0].field == field


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetRollout", pb.GetRolloutRequest(rollout_id="ro-x")),
        ("GetRun", pb.GetRunRequest(run_id="run-x")),
        ("GetResources", pb.GetResourcesRequest(resources_id="rs-x")),
        ("GetWorker", pb.GetWorkerRequest(worker_id="w")),
        ("StartAttempt", pb.StartAttemptRequest(rollout_id="ro-x")),
    ],
)
async def test_what_is_not_there_is_not_found(server: Any, method: str, request_: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(server.stub, method)(request_)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert details_of(refusal.value)["ErrorInfo"].reason.endswith("_NOT_FOUND")


async def test_every_list_pages_through_all_it_has(server: Any) -> None:
    rollouts = await server.enqueue(*map(str, range(5)))
    for _ in range(2):
        await server.stub.CreateRun(pb.CreateRunRequest())
    seen: list[str] = []
    request = pb.ListRolloutsRequest(page_size=2, order_by="create_time desc", count_total=True)
    while True:
        page = await server.stub.ListRollouts(request)
        assert page.total_size == 5
        seen += [rollout.rollout_id for rollout in page.rollouts]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == [rollout.rollout_id for rollout in reversed(rollouts)]
    runs = await server.stub.ListRuns(pb.ListRunsRequest(page_size=1))
    rest = await server.stub.ListRuns(pb.ListRunsRequest(page_size=1, page_token=runs.next_page_token))
    assert (len(runs.runs), len(rest.runs), rest.next_page_token) == (1, 1, "")


async def test_everything_is_there_after_a_restart_and_leases_get_a_fresh_duration(
    start: Callable[[], Awaitable[Any]],
) -> None:
    server = await start()
    await server.enqueue("1", "2")
    held = await server.dequeue(lease_duration=Duration(seconds=10))
    await server.stub.AddSpans(pb.AddSpansRequest(spans=[span(held)]))
    server.clock.advance(60)
    server = await start()
    server.clock.advance(9)
    assert (await server.dequeue()).rollout.input_json == "2"
    done = await server.stub.CompleteAttempt(pb.CompleteAttemptRequest(**ref(held), succeeded=SUCCEEDED))
    spans = (await server.stub.ListSpans(pb.ListSpansRequest(rollout_id=held.rollout.rollout_id))).spans
    assert (done.rollout.status, len(spans)) == (RolloutStatus.ROLLOUT_STATUS_SUCCEEDED, 1)


def by_status(counts: Any) -> dict[str, int]:
    return {RolloutStatus.Name(entry.status).removeprefix("ROLLOUT_STATUS_"): entry.count for entry in counts}


async def test_statistics_count_what_is_there_by_status_and_queue(server: Any) -> None:
    await server.enqueue("1", "2")
    await server.enqueue("3", queue="rooms")
    await server.dequeue(worker_id="w")
    counts = await server.stub.GetStatistics(pb.GetStatisticsRequest())
    assert by_status(counts.rollouts) == {"QUEUING": 2, "PREPARING": 1}
    assert {queue.queue: by_status(queue.rollouts) for queue in counts.queues} == {
        "default": {"QUEUING": 1, "PREPARING": 1},
        "rooms": {"QUEUING": 1},
    }
    assert [(queue.queue, queue.queued_count) for queue in counts.queues] == [("default", 1), ("rooms", 1)]
    assert (counts.attempt_count, counts.worker_count) == (1, 1)


async def test_statistics_tell_how_long_the_oldest_waits_and_who_holds_what(server: Any) -> None:
    await server.enqueue("1", "2", "3")
    await server.dequeue(worker_id="w")
    await server.dequeue(worker_id="w")
    server.clock.advance(30)
    counts = await server.stub.GetStatistics(pb.GetStatisticsRequest())
    assert counts.queues[0].oldest_age == Duration(seconds=30)
    assert [(lease.worker_id, lease.attempt_count) for lease in counts.leases] == [("w", 2)]
    assert counts.leases[0].first_lease_expire_time.seconds * SECOND == server.clock() + 30 * SECOND


async def test_the_server_tells_what_its_clock_says(server: Any) -> None:
    server.clock.advance(30)
    info = await server.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert info.current_time.seconds - info.start_time.seconds == 30
    assert info.current_time.seconds * SECOND == server.clock()


async def test_statistics_tell_what_happens_per_second(server: Any) -> None:
    await server.enqueue("1", "2", "3", "4")
    await server.dequeue()
    server.clock.advance(2)
    counts = await server.stub.GetStatistics(pb.GetStatisticsRequest())
    assert (counts.rates.rollouts_created, counts.rates.attempts_started, counts.rates.rollouts_ended) == (
        2.0,
        0.5,
        0.0,
    )
    assert counts.uptime == counts.rates.window == Duration(seconds=2)


async def test_an_update_replaces_what_its_mask_names_and_keeps_the_rest(server: Any) -> None:
    config = RolloutConfig(timeout=Duration(seconds=9), retry_condition=[AttemptStatus.ATTEMPT_STATUS_FAILED])
    [rollout] = await server.enqueue("1", config=config, labels={"a": "1", "b": "2"})
    change = Rollout(rollout_id=rollout.rollout_id, labels={"c": "3"}, config=RolloutConfig(max_attempts=2))
    request = pb.UpdateRolloutRequest(rollout=change, update_mask=FieldMask(paths=["labels", "config"]))
    updated = (await server.stub.UpdateRollout(request)).rollout
    assert dict(updated.labels) == {"c": "3"}
    assert (updated.config.max_attempts, updated.config.HasField("timeout")) == (2, False)
    assert list(updated.config.retry_condition) == []
    assert updated.input_json == "1"


async def test_an_update_of_a_run_replaces_its_labels_and_clears_its_failure(server: Any) -> None:
    run = (
        await server.stub.CreateRun(pb.CreateRunRequest(run=Run(labels={"a": "1"}, failure=Failure(message="x"))))
    ).run
    request = pb.UpdateRunRequest(
        run=Run(run_id=run.run_id, labels={"b": "2"}), update_mask=FieldMask(paths=["labels", "failure"])
    )
    updated = (await server.stub.UpdateRun(request)).run
    assert (dict(updated.labels), updated.HasField("failure")) == ({"b": "2"}, False)


async def test_a_failure_with_a_back_off_is_delivered_again_when_its_pause_is_over(server: Any) -> None:
    pause = RetryPolicy(kind=FailureKind.FAILURE_KIND_AGENT, initial_backoff=Duration(seconds=10))
    [rollout] = await server.enqueue(config=RolloutConfig(max_attempts=2, retry_policies=[pause]))
    first = await server.dequeue()
    await server.stub.CompleteAttempt(
        pb.CompleteAttemptRequest(rollout_id=rollout.rollout_id, attempt_id=first.attempt.attempt_id, failure=Failure())
    )
    waiting = await server.get(rollout.rollout_id)
    assert waiting.status == RolloutStatus.ROLLOUT_STATUS_REQUEUING
    assert waiting.available_time.seconds * SECOND == server.clock() + 10 * SECOND
    server.clock.advance(9)
    assert await server.dequeue() is None
    server.clock.advance(1)
    again = await server.dequeue()
    assert again.rollout.rollout_id == rollout.rollout_id
    assert not again.rollout.HasField("available_time")


async def test_a_back_off_outlives_a_restart_of_the_server(
    server: Any, start: Callable[[], Awaitable[Any]], clock: Any
) -> None:
    pause = RetryPolicy(kind=FailureKind.FAILURE_KIND_INFRASTRUCTURE, initial_backoff=Duration(seconds=10))
    await server.enqueue(config=RolloutConfig(retry_policies=[pause]))
    await server.dequeue()
    clock.advance(61)
    assert await server.dequeue() is None
    again = await start()
    assert await again.dequeue() is None
    clock.advance(10)
    assert await again.dequeue() is not None


async def test_a_repeated_update_of_a_run_at_a_revision_is_answered_as_the_first(server: Any) -> None:
    run = (await server.stub.CreateRun(pb.CreateRunRequest())).run
    update = pb.UpdateRunRequest(
        run=Run(run_id=run.run_id, checkpoint_json="1"),
        update_mask=FieldMask(paths=["checkpoint_json"]),
        if_revision=run.revision,
        request_id="checkpoint 1",
    )
    assert await server.stub.UpdateRun(update) == await server.stub.UpdateRun(update)


async def test_a_worker_is_told_to_heartbeat_before_its_silence_counts(server: Any) -> None:
    await server.enqueue(config=RolloutConfig(unresponsive_timeout=Duration(seconds=30)))
    await server.enqueue()
    silence, lease = [await server.dequeue() for _ in range(2)]
    assert (silence.heartbeat_interval.seconds, lease.heartbeat_interval.seconds) == (10, 20)


async def test_no_worker_holds_an_attempt_whose_id_it_does_not_know(server: Any) -> None:
    [rollout] = await server.enqueue()
    held = await server.dequeue()
    ids = {"rollout_id": rollout.rollout_id, "attempt_id": "latest"}
    heartbeat = await server.stub.HeartbeatAttempts(pb.HeartbeatAttemptsRequest(attempts=[pb.AttemptRef(**ids)]))
    release = await server.stub.ReleaseAttempts(pb.ReleaseAttemptsRequest(attempts=[pb.AttemptRef(**ids)]))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await server.stub.CompleteAttempt(pb.CompleteAttemptRequest(**ids, succeeded=SUCCEEDED))
    assert details_of(refusal.value)["ErrorInfo"].reason == "ATTEMPT_NOT_FOUND"
    assert ([result.held for result in heartbeat.results], list(release.released_attempt_ids)) == ([False], [])
    assert (await server.get(rollout.rollout_id)).latest_attempt == held.attempt


async def test_a_run_that_goes_on_has_not_failed(server: Any) -> None:
    run = (await server.stub.CreateRun(pb.CreateRunRequest())).run
    failed = Run(run_id=run.run_id, status=RunStatus.RUN_STATUS_FAILED, failure=Failure(message="no money"))
    mask = FieldMask(paths=["status", "failure"])
    assert (await server.stub.UpdateRun(pb.UpdateRunRequest(run=failed, update_mask=mask))).run.HasField("failure")
    again = Run(run_id=run.run_id, status=RunStatus.RUN_STATUS_RUNNING)
    request = pb.UpdateRunRequest(run=again, update_mask=FieldMask(paths=["status"]))
    assert not (await server.stub.UpdateRun(request)).run.HasField("failure")
