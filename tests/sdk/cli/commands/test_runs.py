"""`agl runs`, `agl workers` and `agl backup` against a real store."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.store.embedded import EmbeddedStore

Agl = Callable[..., Awaitable[Any]]
Store = agl.LightningStoreClient


async def test_runs_are_listed_newest_first(command: Agl, store: Store) -> None:
    runs = [await store.create_run(algorithm) for algorithm in ("x", "y")]
    await store.update_run(runs[1].run_id, status="succeeded", summary={"best_score": 0.75})
    told = await command("runs", "list")
    assert [cells[0] for cells in told.cells[:2]] == [runs[1].run_id, runs[0].run_id]
    assert told.cells[0][3:] == ["y", "succeeded", "0.75"]
    assert (await command("runs", "list", "--json")).json[0]["algorithm"] == "y"


async def test_a_run_is_shown_by_the_beginning_of_its_id(command: Agl, run_store: Store) -> None:
    told = await command("runs", "show", str(run_store.run_id)[:-1])
    assert told.out.startswith(f"run {run_store.run_id}: APO, running\n")


@pytest.mark.parametrize(("option", "beginning"), [("--markdown", "# APO run-"), ("--html", "<!doctype html>")])
async def test_a_report_is_written_to_a_file(
    command: Agl, run_store: Store, tmp_path: Path, option: str, beginning: str
) -> None:
    file = tmp_path / "report"
    told = await command("runs", "show", str(run_store.run_id), option, str(file))
    assert (told.status, told.out) == (0, f"{file}\n")
    assert file.read_text().startswith(beginning)
    assert (await command("runs", "show", str(run_store.run_id), option, str(file), "--json")).json == {
        "path": str(file)
    }


async def test_a_report_is_written_in_one_form_at_a_time(command: Agl) -> None:
    told = await command("runs", "show", "run-1", "--html", "a", "--markdown", "b")
    assert told.status == 2
    assert "not allowed with argument" in told.err


async def test_a_run_is_exported_a_rollout_a_line_with_its_attempts_and_spans(
    command: Agl, run_store: Store, tmp_path: Path
) -> None:
    started = await run_store.start_rollout(
        {"n": 1}, config=agl.RolloutConfig(max_attempts=2, retry_condition=["failed"])
    )
    await run_store.complete_attempt(started.rollout_id, started.attempt.attempt_id, failure=agl.Failure(kind="agent"))
    again = await run_store.start_attempt(started.rollout_id)
    span = agl.Span.from_attributes(
        attributes={"raw": b"\xff", "text": "a"},
        name="step",
        rollout_id=again.rollout_id,
        attempt_id=again.attempt.attempt_id,
        sequence_id=1,
        start_time=1.0,
        end_time=2.0,
    )
    await run_store.complete_attempt(again.rollout_id, again.attempt.attempt_id, spans=[span])
    queued = [(await run_store.enqueue_rollout({"n": number})).rollout_id for number in range(40)]
    file = tmp_path / "run.jsonl"
    told = await command("runs", "export", run_store.run_id, "--to", str(file))
    assert told.out == f"{file}  41 rollouts of {run_store.run_id}\n"
    first, *others = map(json.loads, file.read_text().splitlines())
    assert (first["rollout_id"], first["input"]) == (started.rollout_id, {"n": 1})
    assert [attempt["status"] for attempt in first["attempts"]] == ["failed", "succeeded"]
    assert [(of["name"], of["attributes"]["raw"]) for of in first["spans"]] == [("step", "/w==")]
    assert [(of["rollout_id"], of["attempts"], of["spans"]) for of in others] == [(each, [], []) for each in queued]


async def test_an_export_may_be_filtered_and_printed(command: Agl, run_store: Store) -> None:
    for mode in ("train", "val"):
        await run_store.enqueue_rollout(0, mode=mode)
    told = await command("runs", "export", run_store.run_id, "--mode", "val")
    assert [json.loads(line)["mode"] for line in told.out.splitlines()] == ["val"]


async def test_an_export_of_nothing_is_an_error_and_leaves_no_file(
    command: Agl, run_store: Store, tmp_path: Path
) -> None:
    told = await command("runs", "export", run_store.run_id, "--to", str(tmp_path / "run.jsonl"))
    assert (told.status, told.err) == (1, f"agl: run {run_store.run_id} has no such rollouts\n")
    assert not [*tmp_path.iterdir()]


async def test_workers_are_listed_with_what_they_have_in_hand(command: Agl, store: Store) -> None:
    await store.enqueue_rollout("task")
    taken = await store.dequeue_rollout("w-busy")
    assert taken is not None
    await store.update_worker("w-idle", {"host": "a"})
    told = {cells[0]: cells[1:] for cells in (await command("workers")).cells}
    assert told["w-busy"][:2] == ["busy", store.queue]
    assert told["w-busy"][-1] == taken.rollout_id
    assert told["w-idle"][3:5] == ["s", "ago"]
    assert "w-idle" in [worker["worker_id"] for worker in (await command("workers", "--json")).json]
    await store.release_attempts([taken])


async def test_a_backup_is_a_store_with_all_that_was_there(command: Agl, run_store: Store, tmp_path: Path) -> None:
    rollout = await run_store.enqueue_rollout("task")
    told = await command("backup", str(tmp_path / "store.db"))
    assert told.out == f"{tmp_path / 'store.db'}  {(tmp_path / 'store.db').stat().st_size} bytes\n"
    with EmbeddedStore(tmp_path) as copy:
        assert await agl.LightningStoreClient(copy.address).get_rollout_by_id(rollout.rollout_id) is not None


async def test_a_backup_replaces_nothing(command: Agl, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")
    told = await command("backup", str(tmp_path / "copy.db"))
    assert (told.status, told.err) == (1, f"agl: {tmp_path / 'copy.db'} is there already: name another file\n")
    assert "there is no folder" in (await command("backup", str(tmp_path / "none/copy.db"))).err
