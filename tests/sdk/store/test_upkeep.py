"""What an operator asks of a store: to forget, and to be copied."""

from pathlib import Path

import agentlightning as agl
import pytest


async def ended(store: agl.LightningStoreClient) -> agl.Rollout:
    rollout = await store.start_rollout("task")
    return await store.complete_attempt(rollout.rollout_id, rollout.attempt.attempt_id)


async def test_a_deletion_says_what_it_took_what_stays_and_what_was_never_there(
    store: agl.LightningStoreClient,
) -> None:
    done, open_ = await ended(store), await store.enqueue_rollout("open")
    deletion = await store.delete_rollouts([done.rollout_id, open_.rollout_id, "ro-unknown"])
    assert deletion == agl.DeletedRollouts(
        deleted_count=1, kept_rollout_ids=[open_.rollout_id], unknown_rollout_ids=["ro-unknown"]
    )
    assert await store.get_rollout_by_id(done.rollout_id) is None
    assert await store.query_attempts(done.rollout_id) == []


async def test_a_bound_store_deletes_of_its_run(
    store: agl.LightningStoreClient, run_store: agl.LightningStoreClient
) -> None:
    mine, other = await ended(run_store), await ended(store)
    assert (await run_store.delete_rollouts(ended_for_seconds=3600)).deleted_count == 0
    assert (await run_store.delete_rollouts()).deleted_count == 1
    assert await store.get_rollout_by_id(mine.rollout_id) is None
    assert await store.get_rollout_by_id(other.rollout_id) is not None


async def test_no_ids_delete_nothing_and_nothing_said_is_refused(store: agl.LightningStoreClient) -> None:
    done = await ended(store)
    assert (await store.delete_rollouts([])).deleted_count == 0
    with pytest.raises(agl.InvalidRequestError):
        await store.delete_rollouts()
    assert await store.get_rollout_by_id(done.rollout_id) is not None


async def test_a_backup_is_a_file_beside_the_database(store: agl.LightningStoreClient) -> None:
    backup = await store.backup("copy.db")
    assert Path(backup.path).name == "copy.db"
    assert Path(backup.path).stat().st_size == backup.size_bytes
    with pytest.raises(agl.InvalidRequestError, match="file_name"):
        await store.backup("copy.db")
