"""`agl trace` against a real store."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agentlightning import AttemptedRollout, Failure, LightningStoreClient, Span

ASKED = {
    "gen_ai.request.model": "small",
    "gen_ai.prompt.0.role": "user",
    "gen_ai.prompt.0.content": "Which room?",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "A103",
    "gen_ai.usage.prompt_tokens": 12,
    "gen_ai.usage.completion_tokens": 3,
}
REWARDED = {"agentlightning.reward.0.name": "fits", "agentlightning.reward.0.value": 0.5}
Command = Callable[..., Awaitable[Any]]
Recorded = Callable[..., Awaitable[AttemptedRollout]]


@pytest.fixture
def recorded(store: LightningStoreClient) -> Recorded:
    """A rollout whose attempt has ended with these spans: what is given of each, by number from 1."""

    async def record(*spans: dict[str, Any], failure: Failure | None = None) -> AttemptedRollout:
        rollout = await store.start_rollout({"question": "Which room?"})
        ids = {"rollout_id": rollout.rollout_id, "attempt_id": rollout.attempt.attempt_id, "trace_id": f"{1:032x}"}
        made = [
            Span.model_validate(
                {"sequence_id": number, "span_id": f"{number:016x}", "name": f"span {number}"}
                | {"start_time": 100.0 + number, "end_time": 101.0 + number, **ids, **given}
            )
            for number, given in enumerate(spans, 1)
        ]
        await store.complete_attempt(rollout.rollout_id, rollout.attempt.attempt_id, spans=made, failure=failure)
        return rollout

    return record


def below(number: int) -> dict[str, str]:
    return {"parent_id": f"{number:016x}"}


async def test_a_call_is_shown_in_its_place_with_its_time_model_tokens_and_messages(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    root = {"name": "root", "start_time": 100.0, "end_time": 104.0}
    rollout = await recorded(root, below(1) | {"attributes": ASKED}, {"attributes": REWARDED} | below(1))
    told = await anywhere("trace", rollout.rollout_id, "--store", store_address)
    assert (told.status, told.err) == (0, "")
    heading, task, *rest = told.out.splitlines()
    assert heading.startswith(f"{rollout.rollout_id} succeeded in ")
    assert heading.endswith(": 3 spans, 1 model call (15 tokens), reward 0.5")
    assert task == 'task: {"question": "Which room?"}'
    assert [line.split() for line in rest] == [
        ["#1", "root", "█" * 24, "4", "s"],
        ["#2", "├", "span", "2", "█" * 6, "1", "s", "small", "12", "+", "3", "tokens"],
        ["│", "user:", "Which", "room?"],
        ["│", "assistant:", "A103"],
        ["#3", "└", "span", "3", "█" * 6, "1", "s", "reward", "fits", "0.5"],
    ]


async def test_json_has_every_span_whole_with_its_depth(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    rollout = await recorded({}, below(1) | {"attributes": ASKED | {"gen_ai.prompt.0.content": "long " * 100}})
    answer = json.loads((await anywhere("trace", rollout.rollout_id, "--store", store_address, "--json")).out)
    assert answer["attempt_id"] == rollout.attempt.attempt_id
    assert [(span["depth"], span["start_seconds"], span["duration_seconds"]) for span in answer["spans"]] == [
        (0, 0.0, 1.0),
        (1, 1.0, 1.0),
    ]
    assert answer["spans"][1]["messages"] == [{"role": "user", "content": "long " * 100}]


async def test_a_failure_is_told_with_the_end_of_its_stack_trace(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    stack = "\n".join(f"frame {number}" for number in range(20))
    failure = Failure(kind="agent", type="KeyError", message="no room", stack_trace=stack)
    rollout = await recorded({}, failure=failure)
    told = (await anywhere("trace", rollout.rollout_id, "--store", store_address)).out
    assert "failed (agent): KeyError: no room" in told
    assert told.splitlines()[-1] == "  frame 19"
    assert "  ... 14 more lines: --full" in told.splitlines()
    assert "frame 0" in (await anywhere("trace", rollout.rollout_id, "--store", store_address, "--full")).out


async def test_each_attempt_of_several_is_named_and_one_is_chosen_by_its_number(
    anywhere: Command, store: LightningStoreClient, recorded: Recorded, store_address: str
) -> None:
    rollout = await recorded({"name": "the first"}, failure=Failure(kind="agent", type="KeyError", message="no"))
    await store.start_attempt(rollout.rollout_id, worker_id="Worker-7")
    latest = await anywhere("trace", rollout.rollout_id, "--store", store_address)
    assert "attempt 1 failed (--attempt 1): agent, KeyError: no" in latest.out.splitlines()
    assert "attempt 2 preparing by Worker-7 (shown below)" in latest.out.splitlines()
    assert latest.out.splitlines()[-1] == "attempt 2 (preparing) has no spans yet: they are sent as they end"
    assert latest.status == 1
    assert "the first" in (await anywhere("trace", rollout.rollout_id, "--store", store_address, "--attempt", "1")).out
    unknown = await anywhere("trace", rollout.rollout_id, "--store", store_address, "--attempt", "3")
    assert unknown.err.startswith(f"agl: {rollout.rollout_id} has no attempt '3'; its attempts are: 1 (at-")


async def test_of_hundreds_of_spans_the_outer_and_the_notable_are_shown_and_the_rest_is_counted(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    many: list[dict[str, Any]] = [below(1) for _ in range(300)]
    many[149] = below(1) | {"attributes": REWARDED}
    rollout = await recorded({}, *many)
    told = (await anywhere("trace", rollout.rollout_id, "--store", store_address)).out.splitlines()
    assert [line.strip() for line in told if "more spans" in line] == [
        "... 129 more spans, #22 to #150: --full",
        "... 145 more spans, #152 to #296: --full",
    ]
    assert len(told) == 2 + 1 + 20 + 1 + 1 + 1 + 5
    whole = (await anywhere("trace", rollout.rollout_id, "--store", store_address, "--full")).out
    assert len(whole.splitlines()) == 2 + 301


async def test_what_lies_deeper_than_asked_is_counted(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    rollout = await recorded({}, below(1), below(2), below(3))
    told = (await anywhere("trace", rollout.rollout_id, "--store", store_address, "--depth", "1")).out.splitlines()
    assert told[-1].strip() == "└ ... 2 spans below: --depth 2"
    assert len(told) == 2 + 2 + 1


async def test_spans_without_a_parent_and_rings_of_them_are_all_shown(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    rollout = await recorded(below(9), below(3), below(2))
    told = (await anywhere("trace", rollout.rollout_id, "--store", store_address)).out
    assert [line.split()[0] for line in told.splitlines()[2:]] == ["#1", "#2", "#3"]


async def test_however_deep_spans_lie_each_is_shown_when_all_are_asked_for(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    rollout = await recorded(*(below(number) for number in range(2000)))
    told = (await anywhere("trace", rollout.rollout_id, "--store", store_address, "--full")).out
    assert len(told.splitlines()) == 2 + 2000


async def test_where_spans_are_many_the_deeper_are_counted(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    levels = [{}, *(below(1) for _ in range(20)), *(below(2 + number // 20) for number in range(400))]
    levels[-1] |= {"attributes": REWARDED}
    rollout = await recorded(*levels)
    told = (await anywhere("trace", rollout.rollout_id, "--store", store_address)).out.splitlines()
    assert len(told) == 2 + 1 + 20 + 20
    assert told[-1].strip() == "└ ... 20 spans below, 1 with a reward or an error: --depth 2"


async def test_a_call_that_two_instrumentations_recorded_is_counted_once(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    named = {"attributes": ASKED | {"gen_ai.response.id": "chatcmpl-1"}}
    bare = {"attributes": {"gen_ai.request.model": "small", "gen_ai.response.id": "chatcmpl-1"}}
    rollout = await recorded(bare, below(1) | named)
    told = (await anywhere("trace", rollout.rollout_id, "--store", store_address)).out.splitlines()
    assert told[0].endswith("2 spans, 1 model call (15 tokens), no reward")
    assert told[2].endswith("the call of #2, recorded twice")


async def test_of_a_conversation_that_goes_on_only_what_is_new_is_shown(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    second = ASKED | {"gen_ai.prompt.1.role": "user", "gen_ai.prompt.1.content": "And tomorrow?"}
    rollout = await recorded({"attributes": ASKED}, {"attributes": second})
    told = (await anywhere("trace", rollout.rollout_id, "--store", store_address)).out
    assert told.count("user: Which room?") == 1
    assert "...: 1 message as before" in told
    assert "user: And tomorrow?" in told


async def test_what_an_instrumentation_wrote_of_its_own_kind_is_shown_all_the_same(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    odd = {
        "gen_ai.request.model": 7,
        "gen_ai.usage.input_tokens": "many",
        "gen_ai.usage.output_tokens": "3",
        "gen_ai.prompt.0.content": [1, 2],
        "gen_ai.prompt.0.tool_calls": ["look"],
        "blob": b"\0",
    }
    rollout = await recorded({"attributes": odd})
    for way in ([], ["--json"], ["--full"]):
        told = await anywhere("trace", rollout.rollout_id, "--store", store_address, *way)
        assert (told.status, told.err) == (0, "")


async def test_a_terminal_is_not_told_what_to_do_by_a_span(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    rollout = await recorded({"name": "\x1b[2J\x9b2J", "attributes": {"agentlightning.message.body": "\x07\nhello"}})
    told = (await anywhere("trace", rollout.rollout_id, "--store", store_address, "--full")).out
    assert not set("\x1b\x9b\x07") & set(told)
    assert "hello" in told


async def test_an_unknown_rollout_is_an_error_that_names_those_there_are(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    known = await recorded()
    told = await anywhere("trace", "ro-000000000000", "--store", store_address)
    assert told.status == 1
    assert told.err.startswith("agl: there is no rollout 'ro-000000000000'; the newest are: ")
    assert known.rollout_id in told.err


async def test_what_a_command_printed_is_shown_with_its_exit_code(
    anywhere: Command, recorded: Recorded, store_address: str
) -> None:
    printed = {"agentlightning.process.stdout": "looking\n0.5\n", "agentlightning.process.stderr": "a warning\n"}
    rollout = await recorded({"name": "agent.sh", "attributes": {"process.exit.code": 0} | printed})
    told = await anywhere("trace", rollout.rollout_id, "--store", store_address)
    _, _, *lines = told.out.splitlines()
    assert lines[0].endswith("process.exit.code=0")
    assert [line.strip() for line in lines[1:]] == ["stdout: looking", "0.5", "stderr: a warning"]
