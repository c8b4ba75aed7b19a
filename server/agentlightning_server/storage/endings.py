"""Which rollouts have ended, in the order in which they did: what a wait sends. Knows no waiter."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from agentlightning.v1.store_service_pb2 import WaitRolloutsResponse

from agentlightning_server.errors import revision_out_of_range
from agentlightning_server.storage import rollouts
from agentlightning_server.storage.fitting import fitting
from agentlightning_server.storage.transaction import Reading


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at some rollouts has found."""

    message: WaitRolloutsResponse
    """Those that have ended, as many as one message takes, and those that are not there."""
    settled: list[str]
    """Those that need no waiting for: in the message, or ended before it mattered."""
    left: list[str]
    """Those that have ended too and did not fit."""
    reached: int
    """The revision up to which all this is so."""


def look(tx: Reading, rollout_ids: Sequence[str], after: int, reached: int | None = None) -> Look:
    """Look which of the rollouts have ended after one revision and not after another (None: the store's).

    A message says the revision to resume from. So no ending up to it may be missing in it, and none behind it may be
    in it: an ending later than `reached` is left to the look that follows its notice.

    Raises:
        StoreError: The store has not reached the revision to look after.
    """
    rows = tx.all("rollout_endings", rollout_ids=json.dumps(rollout_ids))
    reached = tx.revision() if reached is None else reached
    if after > reached:
        raise revision_out_of_range(after, 0, reached)
    known = {row["rollout_id"]: row["end_revision"] for row in rows}
    ended = sorted((revision, rollout_id) for rollout_id, revision in known.items() if revision is not None)
    news = [ending for ending in ended if after < ending[0] <= reached]
    sent = fitting(rollouts.get(tx, rollout_id) for _, rollout_id in news)
    unknown = [rollout_id for rollout_id in rollout_ids if rollout_id not in known]
    left = news[len(sent) :]
    return Look(
        message=WaitRolloutsResponse(
            rollouts=sent, revision=news[len(sent) - 1][0] if left else reached, unknown_rollout_ids=unknown
        ),
        settled=[
            *unknown,
            *(rollout_id for revision, rollout_id in ended if revision <= after),
            *(rollout.rollout_id for rollout in sent),
        ],
        left=[rollout_id for _, rollout_id in left],
        reached=reached,
    )
