"""`agl rollouts cancel` and `retry` against a real store."""

import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TextIO

import agentlightning as agl
import pytest

Agl = Callable[..., Awaitable[Any]]
Store = agl.LightningStoreClient


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """That of a terminal from which the command reads."""
    person, terminal = os.openpty()
    with open(terminal) as stdin, open(person, "w", buffering=1) as keyboard:
        monkeypatch.setattr("sys.stdin", stdin)
        yield keyboard


async def enqueued(store: Store, count: int, **fields: Any) -> list[str]:
    return [(await store.enqueue_rollout(number, **fields)).rollout_id for number in range(count)]


async def statuses(store: Store) -> list[str]:
    return [rollout.status for rollout in await store.query_rollouts()]


async def test_named_rollouts_are_cancelled_without_asking(command: Agl, run_store: Store) -> None:
    ids = await enqueued(run_store, 3)
    told = await command("rollouts", "cancel", *ids[:2])
    assert told.out.splitlines() == [f"{rollout_id}  cancelled" for rollout_id in ids[:2]]
    assert told.status == 0
    assert await statuses(run_store) == ["cancelled", "cancelled", "queuing"]


async def test_what_has_ended_is_left_alone_and_said(command: Agl, run_store: Store) -> None:
    ids = await enqueued(run_store, 2)
    await run_store.update_rollout(ids[0], status="succeeded")
    told = await command("rollouts", "cancel", *ids)
    assert told.status == 1
    assert told.err == f"agl: {ids[0]} is succeeded: there is nothing to cancel\n"
    assert await statuses(run_store) == ["succeeded", "cancelled"]


async def test_an_unknown_id_changes_nothing(command: Agl, run_store: Store) -> None:
    ids = await enqueued(run_store, 1)
    assert (await command("rollouts", "cancel", *ids, "ro-000000000000")).status == 1
    assert await statuses(run_store) == ["queuing"]


async def test_a_filter_asks_first_and_where_nobody_can_answer_it_wants_yes(command: Agl, run_store: Store) -> None:
    await enqueued(run_store, 2)
    told = await command("rollouts", "cancel", "--run", run_store.run_id)
    assert told.status == 2
    assert told.err == "agl: this would cancel 2 rollouts, and nobody is there to ask: say --yes to do it\n"
    assert await statuses(run_store) == ["queuing", "queuing"]


async def test_all_that_a_filter_finds_is_cancelled_when_confirmed(command: Agl, run_store: Store) -> None:
    await enqueued(run_store, 2, mode="train")
    await enqueued(run_store, 1, mode="val")
    told = await command("rollouts", "cancel", "--run", run_store.run_id, "--mode", "train", "--yes", "--json")
    assert [rollout["status"] for rollout in told.json["changed"]] == ["cancelled", "cancelled"]
    assert await statuses(run_store) == ["cancelled", "cancelled", "queuing"]


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("\n", 1), ("\n\x04", 1)])
async def test_a_person_is_asked(command: Agl, run_store: Store, keyboard: TextIO, answer: str, status: int) -> None:
    await enqueued(run_store, 1)
    keyboard.write(answer)
    told = await command("rollouts", "cancel", "--run", run_store.run_id)
    assert told.err.startswith("cancel 1 rollouts? [y/N] ")
    assert told.status == status
    assert await statuses(run_store) == ["queuing" if status else "cancelled"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "agl: which rollouts? name them by ids, or by a filter such as --run RUN\n"),
        (["ro-1", "--mode", "val"], "agl: rollouts are named by ids and by a filter: give the one or the other\n"),
    ],
)
async def test_it_must_be_clear_which_are_meant(command: Agl, arguments: list[str], message: str) -> None:
    told = await command("rollouts", "retry", *arguments, "--yes")
    assert (told.status, told.err) == (2, message)


async def test_what_failed_or_was_cancelled_is_queued_again_and_can_be_taken(command: Agl, run_store: Store) -> None:
    ids = await enqueued(run_store, 4)
    for rollout_id, status in zip(ids, ("failed", "cancelled", "succeeded"), strict=False):
        await run_store.update_rollout(rollout_id, status=status)
    told = await command("rollouts", "retry", "--run", run_store.run_id, "--yes")
    assert told.out.splitlines() == [f"{rollout_id}  requeuing" for rollout_id in ids[:2]]
    taken = await run_store.dequeue_many_rollouts(limit=10)
    assert {rollout.rollout_id for rollout in taken} == {ids[0], ids[1], ids[3]}
    await run_store.release_attempts(taken)


async def test_a_filter_that_finds_nothing_says_so(command: Agl, run_store: Store) -> None:
    told = await command("rollouts", "retry", "--run", run_store.run_id)
    assert (told.status, told.err) == (1, "agl: no rollout fits: there is nothing to retry\n")
