"""A million rows in a list: read page by page, the first and the last alike, by a server that does not grow."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.rollout_pb2 import RolloutStatus
from agentlightning.v1.span_pb2 import Span
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub

PAGE = 1000
ALLOWANCE = 32
"""MiB that the server may grow by: a page, and what SQLite keeps of the file."""
NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)"
ROLLOUTS = f"""
{NUMBERS} INSERT INTO rollouts (
  rollout_id, run_id, queue, priority, queue_position, status, mode, input_json, resources_id, resources_version,
  max_attempts, retry_condition, max_redeliveries, metadata_json, labels_json, create_time, end_time, revision
) SELECT printf('ro-%012x', n), '', 'default', 0, n, 'succeeded', 1, n, '', 0, 1, '', 3, '', '{{}}', n, n + 1, n
FROM numbers"""
SPANS = f"""
{NUMBERS} INSERT INTO spans (
  rollout_id, attempt_id, span_id, sequence_id, trace_id, parent_span_id, name, span
) SELECT 'ro-000000000001', 'at-1', printf('%016x', n), n, '', '', 'step', :span FROM numbers"""


def fill(database: Path, statement: str, **values: Any) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(statement, values)
        connection.commit()


async def read_through(call: Any, request: Any, field: str) -> int:
    """How many there are, each page read and forgotten."""
    count = 0
    while True:
        page = await call(request)
        count += len(getattr(page, field))
        if not page.next_page_token:
            return count
        request.page_token = page.next_page_token


async def test_a_list_of_a_million_is_read_through_with_memory_flat(
    serve: Callable[..., Any], times: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    count = times(10_000, 1_000_000)
    empty = serve()
    empty.send(15)
    assert empty.wait() == 0
    fill(empty.database, ROLLOUTS, count=count)
    fill(empty.database, SPANS, count=count, span=Span(name="x" * 200).SerializeToString())
    server = serve()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = StoreServiceStub(channel)
        rollouts = pb.ListRolloutsRequest(page_size=PAGE, statuses=[RolloutStatus.ROLLOUT_STATUS_SUCCEEDED])
        spans = pb.ListSpansRequest(rollout_id="ro-000000000001", page_size=PAGE)
        await stub.ListRollouts(rollouts)
        await stub.ListSpans(spans)
        before = server.memory
        read = (
            await read_through(stub.ListRollouts, rollouts, "rollouts"),
            await read_through(stub.ListSpans, spans, "spans"),
        )
        last = await stub.ListRollouts(pb.ListRolloutsRequest(order_by="create_time desc", page_size=1))
        after = server.memory
    tell(
        f"{count} rollouts and {count} spans in pages of {PAGE}, {read[0]} and {read[1]} read: server's memory "
        f"{before:.0f} MiB, then {after:.0f}"
    )
    assert read == (count, count)
    assert [rollout.input_json for rollout in last.rollouts] == [str(count)]
    assert after < before + ALLOWANCE
