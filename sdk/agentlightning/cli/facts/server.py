"""What a server says of itself and its queues, as its messages have it: more than the store's methods hand on.

Knows the protocol, and nothing of what is made of it.
"""

from collections.abc import Sequence
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from agentlightning.store import LightningStoreClient
from agentlightning.store.connection import connection_to, run
from agentlightning.store.convert import rollout_from_proto, rollout_status_to_proto
from agentlightning.types import Rollout, RolloutStatus
from agentlightning.v1 import store_service_pb2 as pb

M = TypeVar("M", bound=Message)


async def server_info(client: LightningStoreClient) -> pb.GetServerInfoResponse:
    """Its version, its database and since when it runs."""
    return cast(pb.GetServerInfoResponse, await _call(client, "GetServerInfo", pb.GetServerInfoRequest()))


async def statistics(client: LightningStoreClient) -> pb.GetStatisticsResponse:
    """Its counts."""
    return cast(pb.GetStatisticsResponse, await _call(client, "GetStatistics", pb.GetStatisticsRequest()))


async def rollouts(
    client: LightningStoreClient, *, statuses: Sequence[RolloutStatus], order_by: str, limit: int, queue: str | None
) -> list[Rollout]:
    """The first rollouts of a list, each with its latest attempt if it has one.

    Args:
        client: The store.
        statuses: In one of these statuses.
        order_by: By what the list is sorted, as the protocol says it: `end_time desc`.
        limit: How many at most.
        queue: In this queue. None: in any.
    """
    request = pb.ListRolloutsRequest(
        statuses=map(rollout_status_to_proto, statuses), order_by=order_by, page_size=limit, queue=queue or ""
    )
    return [rollout_from_proto(rollout) for rollout in (await _call(client, "ListRollouts", request)).rollouts]


async def _call(client: LightningStoreClient, method: str, request: Message) -> Any:
    async def call() -> Any:
        connection = connection_to(client.server_address)
        return await connection.call(method, request, retry_seconds=client.retry_seconds)

    return await run(call())
