"""Runs: what an algorithm keeps of itself."""

import agentlightning as agl
import pytest


async def test_a_run_keeps_its_checkpoint_its_best_resources_and_why_it_failed(store: agl.LightningStoreClient) -> None:
    run = await store.create_run("APO", config={"rounds": 2})
    best = await store.add_resources({"prompt_template": "x"})
    failure = agl.Failure(kind="infrastructure", message="no disk")
    await store.update_run(run.run_id, checkpoint={"round": 1}, best_resources=best)
    await store.update_run(run.run_id, status="failed", failure=failure)
    read = await store.get_run(run.run_id)
    assert read is not None
    assert (read.config, read.checkpoint, read.best_resources_id) == ({"rounds": 2}, {"round": 1}, best.resources_id)
    assert (read.status, read.failure) == ("failed", failure)
    assert read.end_time is not None


async def test_an_update_of_a_run_that_somebody_changed_is_refused(store: agl.LightningStoreClient) -> None:
    run = await store.create_run("APO")
    changed = await store.update_run(run.run_id, checkpoint={"round": 1}, if_revision=run.revision)
    with pytest.raises(agl.ConflictError, match="read it again") as refusal:
        await store.update_run(run.run_id, checkpoint={"round": 2}, if_revision=run.revision)
    assert refusal.value.reason == "REVISION_MISMATCH"
    assert await store.get_run(run.run_id) == changed


async def test_runs_are_found_by_status_algorithm_and_labels(store: agl.LightningStoreClient) -> None:
    mine = {"by": store.queue or ""}
    first = await store.create_run("APO", labels=mine)
    second = await store.create_run("Baseline", labels={**mine, "kind": "a"})
    await store.update_run(second.run_id, status="succeeded")

    async def found(**filters: object) -> list[str]:
        return [run.run_id for run in await store.query_runs(labels=mine, **filters)]  # type: ignore[arg-type]

    assert await found() == [second.run_id, first.run_id]
    assert await found(limit=1) == [second.run_id]
    assert await found(status="running") == [first.run_id]
    assert await found(algorithm="Baseline") == [second.run_id]
    assert [run.run_id for run in await store.query_runs(labels={**mine, "kind": "a"})] == [second.run_id]


async def test_an_unknown_run_is_none(store: agl.LightningStoreClient) -> None:
    assert await store.get_run("run-unknown") is None
