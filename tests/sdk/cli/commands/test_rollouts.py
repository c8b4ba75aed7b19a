"""`agl rollouts list` and `show` against a real store."""

from collections.abc import Awaitable, Callable
from typing import Any

import agentlightning as agl
import pytest

Agl = Callable[..., Awaitable[Any]]
Store = agl.LightningStoreClient


@pytest.fixture
async def three(run_store: Store) -> list[str]:
    """The ids of a queuing, a failed and a cancelled rollout, oldest first."""
    queuing = await run_store.enqueue_rollout({"n": 1}, mode="val", labels={"split": "hard"})
    failed = await run_store.start_rollout({"n": 2}, worker_id="w-1")
    failure = agl.Failure(kind="agent", type="ValueError", message="no\nroom", stack_trace="Traceback: here")
    await run_store.complete_attempt(failed.rollout_id, failed.attempt.attempt_id, failure=failure)
    cancelled = await run_store.enqueue_rollout({"n": 3}, mode="val")
    await run_store.cancel_rollouts([cancelled.rollout_id])
    return [queuing.rollout_id, failed.rollout_id, cancelled.rollout_id]


async def test_rollouts_are_listed_newest_first_with_what_became_of_them(
    command: Agl, run_store: Store, three: list[str]
) -> None:
    told = await command("rollouts", "list", "--run", run_store.run_id)
    assert told.out.splitlines()[0].split() == ["ROLLOUT", "CREATED", "MODE", "STATUS", "REWARD", "TOOK", "TASK"]
    assert [cells[0] for cells in told.cells] == three[::-1]
    assert "  failed (agent)  " in told.out.splitlines()[2]
    assert told.out.endswith('  {"n": 1}\n')
    assert (told.status, told.err) == (0, "")


async def test_filters_must_all_hold(command: Agl, run_store: Store, three: list[str]) -> None:
    async def listed(*filters: str) -> list[str]:
        told = await command("rollouts", "list", "--json", "--run", run_store.run_id, *filters)
        return [rollout["rollout_id"] for rollout in told.json]

    assert await listed("--status", "failed", "--status", "queuing") == [three[1], three[0]]
    assert await listed("--mode", "val") == [three[2], three[0]]
    assert await listed("--label", "split=hard") == three[:1]
    assert await listed("--mode", "val", "--status", "failed") == []
    assert await listed("--queue", str(run_store.queue)) == three[::-1]
    assert await listed("--queue", "another") == []


async def test_a_list_cut_short_says_so_beside_the_answer(command: Agl, run_store: Store, three: list[str]) -> None:
    told = await command("rollouts", "list", "--run", run_store.run_id, "--limit", "2")
    assert len(told.cells) == 2
    assert told.err == "2 of 3; --limit 0 for all\n"
    assert len((await command("rollouts", "list", "--run", run_store.run_id, "--limit", "0")).cells) == 3


async def test_a_long_task_is_whole_where_it_is_no_terminal(command: Agl, run_store: Store) -> None:
    await run_store.enqueue_rollout("word " * 100)
    told = await command("rollouts", "list", "--run", run_store.run_id)
    assert told.out.count("word") == 100


async def test_a_rollout_is_shown_with_its_resources_its_attempts_and_why_they_failed(
    command: Agl, run_store: Store
) -> None:
    resources = await run_store.add_resources({"prompt": "Hi {name}"})
    config = agl.RolloutConfig(max_attempts=3)
    rollout = await run_store.start_rollout({"n": 1}, resources_id=resources.resources_id, config=config)
    failure = agl.Failure(kind="agent", type="ValueError", message="no\nroom", stack_trace="Traceback: here")
    await run_store.complete_attempt(rollout.rollout_id, rollout.attempt.attempt_id, failure=failure)
    told = await command("rollouts", "show", rollout.rollout_id)
    fields = dict(line.split(maxsplit=1) for line in told.out.split("\n\n")[0].splitlines())
    assert fields["status"] == "failed (agent)"
    assert fields["resources"] == f"{resources.resources_id}@1: prompt (prompt_template)"
    assert fields["task"] == '{"n": 1}'
    assert fields["config"] == '{"max_attempts": 3}'
    assert "agent: ValueError: no room\n" in told.out
    assert told.out.endswith("Traceback: here\n")


async def test_what_a_terminal_obeys_is_left_out_of_why_a_rollout_failed(command: Agl, run_store: Store) -> None:
    rollout = await run_store.start_rollout(None)
    failure = agl.Failure(kind="agent", type="ExitStatus", message="\x1b[2Jgone", stack_trace="first\n\x1b[2Jgone\n")
    await run_store.complete_attempt(rollout.rollout_id, rollout.attempt.attempt_id, failure=failure)
    told = await command("rollouts", "show", rollout.rollout_id)
    assert "\x1b" not in told.out
    assert told.out.endswith("first\n [2Jgone\n")


async def test_a_rollout_as_json_has_all_its_attempts(command: Agl, three: list[str]) -> None:
    told = await command("rollouts", "show", three[1], "--json")
    assert told.json["rollout_id"] == three[1]
    assert [attempt["failure"]["type"] for attempt in told.json["attempts"]] == ["ValueError"]


@pytest.mark.parametrize("part", [slice(None, -1), slice(3, None), slice(3, -1)])
async def test_an_id_may_be_shortened_and_its_prefix_left_out(command: Agl, three: list[str], part: slice) -> None:
    told = await command("rollouts", "show", three[0][part], "--json")
    assert told.json["rollout_id"] == three[0]


async def test_a_beginning_that_several_share_is_an_error_that_names_them(command: Agl, three: list[str]) -> None:
    told = await command("rollouts", "show", "ro-")
    assert told.status == 1
    assert " rollouts begin with 'ro-': ro-" in told.err
    assert told.err.endswith("type more of the id\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "hard"], "argument --label: 'hard' is no label, such as split=hard"),
        (["--status", "done"], "argument --status: invalid choice: 'done'"),
        (["--run", "run-000000000000"], "there is no run 'run-000000000000'; the newest are: "),
    ],
)
async def test_a_filter_that_cannot_be_is_refused(command: Agl, arguments: list[str], message: str) -> None:
    told = await command("rollouts", "list", *arguments)
    assert told.status == (1 if "--run" in arguments else 2)
    assert told.err.startswith(f"agl: {message}")
