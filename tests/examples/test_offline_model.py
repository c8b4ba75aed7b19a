import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import mean
from typing import Any

import offline_model
import pytest
from offline_rules import RULES, Meeting, Rule, stated_rules
from openai import OpenAI
from pydantic import BaseModel
from rooms import ROOMS, TOOLS, RoomSelectionTask, Split, get_rooms_and_availability, grade, load_tasks

MODEL = "gpt-4.1-nano"
BASELINE = (
    "Find a meeting room on {date} at {time} for {duration_min} minutes and {attendees} attendees, "
    "with needs {needs} and accessible required: {accessible_required}."
)
WRITTEN_BY_HAND = f"""{BASELINE}
Pick only rooms that are free then, hold at least that many people, have all the requested equipment, and are accessible
when accessibility is required. Of those take the smallest; break ties by the fewest extra items, then by the shortest
distance. If no room fits, reply No Room. Reply with the room id only."""
TASK = load_tasks("train")[0]
PLACEHOLDERS = set(re.findall(r"\{\w+\}", BASELINE))


@pytest.fixture
def start() -> Iterator[Callable[[int], OpenAI]]:
    """Starts an offline model with a seed and gives a client of it."""
    with ExitStack() as stack:

        def start(seed: int) -> OpenAI:
            base_url = stack.enter_context(offline_model.offline_model(seed))
            return stack.enter_context(OpenAI(api_key="any", base_url=base_url, max_retries=0))

        yield start


@pytest.fixture
def client(start: Callable[[int], OpenAI]) -> OpenAI:
    return start(0)


def say(client: OpenAI, text: str) -> str:
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content


def book(client: OpenAI, template: str, task: RoomSelectionTask) -> list[dict[str, Any]]:
    """The conversation of one booking, the answer last."""
    messages = [{"role": "user", "content": template.format(**task["task_input"])}]
    message = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices[0].message
    (call,) = message.tool_calls
    arguments = json.loads(call.function.arguments)
    rooms = get_rooms_and_availability(arguments["date"], arguments["time"], arguments["duration_min"])
    messages += [
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": json.dumps(rooms)},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages).choices[0].message
    return [*messages, {"role": "assistant", "content": answer.content}]


def score(client: OpenAI, template: str, split: Split) -> float:
    return mean(
        grade(book(client, template, task)[-1]["content"], task["expected_choice"]) for task in load_tasks(split)
    )


def conversation(task_input: dict[str, Any], answer: str, **changes: Any) -> list[dict[str, Any]]:
    """A booking among all rooms, free unless `changes` says otherwise of every room."""
    rooms = [{**room, "free": True, **changes} for room in ROOMS]
    return [
        {"role": "user", "content": BASELINE.format(**(TASK["task_input"] | {"needs": []} | task_input))},
        {"role": "tool", "tool_call_id": "call_0", "content": json.dumps({"rooms": rooms})},
        {"role": "assistant", "content": answer},
    ]


def criticise(client: OpenAI, template: str, *rollouts: tuple[float, list[dict[str, Any]]]) -> str:
    traces = "\n".join(
        f'<rollout number="{number}" status="succeeded" reward="{reward}">\n{json.dumps(messages)}\n</rollout>'
        for number, (reward, messages) in enumerate(rollouts, start=1)
    )
    return say(client, f"Criticise the prompt.\n<prompt_template>\n{template}\n</prompt_template>\n{traces}")


def edit(client: OpenAI, template: str, critique: str) -> str:
    return say(
        client,
        "Return the text to stand between <prompt_template> and </prompt_template>, and nothing else.\n"
        f"<critique>\n{critique}\n</critique>\n<prompt_template>\n{template}\n</prompt_template>",
    )


def train(client: OpenAI, edits: int) -> str:
    """The template after some rounds of four rollouts, a critique and an edit, always keeping the last."""
    template, tasks = BASELINE, load_tasks("train")
    for number in range(edits):
        shown = tasks[4 * number : 4 * number + 4]
        traces = [book(client, template, task) for task in shown]
        rewards = [
            grade(trace[-1]["content"], task["expected_choice"]) for trace, task in zip(traces, shown, strict=True)
        ]
        template = edit(client, template, criticise(client, template, *zip(rewards, traces, strict=True)))
    return template


def test_the_baseline_prompt_fails_more_often_than_not(client: OpenAI) -> None:
    assert 0.3 <= score(client, BASELINE, "validation") <= 0.5
    assert 0.3 <= score(client, BASELINE, "test") <= 0.5


def test_a_prompt_that_states_every_rule_mostly_succeeds(client: OpenAI) -> None:
    every_rule = "\n".join([BASELINE, *(rule.wordings[0] for rule in RULES.values())])
    assert 0.85 <= score(client, every_rule, "validation") <= 0.97
    assert 0.85 <= score(client, every_rule, "test") <= 0.97


def test_the_rules_are_recognised_in_a_prompt_written_by_hand(client: OpenAI) -> None:
    assert score(client, WRITTEN_BY_HAND, "test") >= 0.85


def test_the_same_sequence_of_requests_gets_the_same_answers_from_another_process(
    start: Callable[[int], OpenAI],
) -> None:
    def answers(client: OpenAI) -> list[list[dict[str, Any]]]:
        return [book(client, BASELINE, task) for task in load_tasks("train")[:10] * 2]

    first = answers(start(0))
    assert answers(start(0)) == first
    assert answers(start(1)) != first


def test_the_order_of_other_requests_does_not_matter(start: Callable[[int], OpenAI]) -> None:
    tasks = load_tasks("train")
    forward, backward = start(0), start(0)
    there = [book(forward, BASELINE, task) for task in tasks]
    back = [book(backward, BASELINE, task) for task in reversed(tasks)]
    assert there == back[::-1]


def test_asked_again_it_may_answer_otherwise(client: OpenAI) -> None:
    assert len({book(client, BASELINE, TASK)[-1]["content"] for _ in range(20)}) > 1


def test_it_asks_for_what_the_prompt_leaves_out(client: OpenAI) -> None:
    messages = [{"role": "user", "content": "Find a room for 4 people."}]
    message = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices[0].message
    assert message.tool_calls is None
    assert message.content is not None and message.content.endswith("?")


@pytest.mark.parametrize(
    ("task_input", "answer", "changes", "rules"),
    [
        ({}, "Linden", {"free": False}, {"free", "no_room"}),
        ({"attendees": 20}, "Linden", {}, {"capacity", "no_room"}),
        ({"needs": ["camera"]}, "Linden", {}, {"equipment"}),
        ({"accessible_required": True}, "Rowan", {}, {"accessible"}),
        ({"attendees": 3}, "Linden", {}, {"tightest"}),
        ({"attendees": 8}, "Rowan", {}, {"extras"}),
        ({"attendees": 8}, "Linden", {}, {"nearest"}),
        ({"attendees": 8}, "No Room", {}, {"no_room"}),
        ({"attendees": 20}, "Sorry, nothing suits.", {}, {"no_room"}),
        ({"attendees": 8}, "I suggest Maple.", {}, {"id_only"}),
        ({"attendees": 8}, "Maple or Linden", {}, {"id_only"}),
        ({"attendees": 20}, "There is No Room.", {}, {"id_only"}),
    ],
)
def test_the_critic_names_the_rules_that_the_answer_breaks(
    client: OpenAI, task_input: dict[str, Any], answer: str, changes: dict[str, Any], rules: set[str]
) -> None:
    failure = (0.0, conversation(task_input, answer, **changes))
    assert {rule for _ in range(10) for rule in stated_rules(criticise(client, BASELINE, failure))} == rules


def test_the_critic_never_names_a_rule_that_no_shown_answer_breaks(client: OpenAI) -> None:
    too_large = conversation({"attendees": 3}, "Linden")
    wordy = conversation({"attendees": 8}, "I suggest Maple.")
    named = [stated_rules(criticise(client, BASELINE, (0.0, too_large), (0.5, wordy))) for _ in range(30)]
    assert {rule for rules in named for rule in rules} == {"tightest", "id_only"}


def test_the_critic_never_names_a_rule_that_the_template_states(client: OpenAI) -> None:
    template = f"{BASELINE}\n{RULES['tightest'].wordings[0]}"
    assert stated_rules(criticise(client, template, (0.0, conversation({"attendees": 3}, "Linden")))) == []


def test_the_critic_learns_nothing_from_rollouts_that_succeeded(client: OpenAI) -> None:
    critique = criticise(client, BASELINE, (1.0, conversation({"attendees": 8}, "Maple")))
    assert "no failure" in critique and stated_rules(critique) == []


@pytest.mark.parametrize(
    "layout",
    [
        json.dumps,
        lambda messages: json.dumps(messages, indent=2),
        lambda messages: "\n".join(json.dumps(message) for message in messages),
        lambda messages: "Call 1: " + json.dumps({"messages": messages, "tools": TOOLS}) + " [end]",
    ],
    ids=["array", "indented", "lines", "nested"],
)
def test_the_critic_reads_messages_in_any_layout(client: OpenAI, layout: Callable[[Any], str]) -> None:
    trace = layout(conversation({"attendees": 3}, "Linden"))
    text = f'<prompt_template>{BASELINE}</prompt_template><rollout number="1" reward="0.0">{trace}</rollout>'
    assert stated_rules(say(client, text)) == ["tightest"]


def test_the_critic_stands_traces_without_rooms_or_answer(client: OpenAI) -> None:
    assert "no failure" in criticise(client, BASELINE, (0.0, []), (0.0, conversation({}, "Linden")[:1]))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_what_critic_and_editor_write_states_that_rule_and_no_other(rule: Rule) -> None:
    assert [stated_rules(text) for text in (rule.critique, *rule.wordings)] == [[rule.name]] * 4


def test_the_editor_adds_two_or_three_of_the_rules_asked_for(client: OpenAI) -> None:
    critique = "\n".join(f"- {rule.critique}" for rule in RULES.values())
    added = [stated_rules(edit(client, BASELINE, critique)) for _ in range(20)]
    assert {tuple(rules) for rules in added} == {("free", "capacity"), ("free", "capacity", "equipment")}


def test_the_editor_keeps_the_template_with_its_placeholders_and_invents_none(client: OpenAI) -> None:
    critique = "Mention {seats} and {floor}. Prefer the smallest room."
    edited = edit(client, BASELINE, critique)
    assert edited.startswith(BASELINE)
    assert set(re.findall(r"\{\w+\}", edited)) == PLACEHOLDERS


def test_the_editor_asked_for_nothing_it_knows_changes_no_rule(client: OpenAI) -> None:
    edited = edit(client, BASELINE, "Be friendlier.")
    assert edited != BASELINE and stated_rules(edited) == []


def test_rounds_of_critique_and_edit_climb_from_the_baseline_step_by_step(start: Callable[[int], OpenAI]) -> None:
    def score_after(edits: int) -> float:
        return mean(score(start(seed), train(start(seed), edits), "test") for seed in range(3))

    assert score_after(0) < 0.55 < score_after(1) < score_after(2)
    assert score_after(2) > 0.75


def test_the_judge_scores_the_answer_as_the_schema_asks(client: OpenAI) -> None:
    class Verdict(BaseModel):
        reason: str
        score: float

    def judge(answer: str) -> float:
        text = f"Compare.\n<expected>Maple</expected>\n<answer>{answer}</answer>"
        messages = [{"role": "user", "content": text}]
        completion = client.chat.completions.parse(model=MODEL, messages=messages, response_format=Verdict)
        return completion.choices[0].message.parsed.score

    assert [judge("Maple"), judge("I suggest Maple."), judge("Cedar")] == [1.0, 0.5, 0.0]


def test_any_other_question_gets_a_sentence_about_it(client: OpenAI) -> None:
    assert "Why is the sky blue?" in say(client, "Why is the sky blue?")


@pytest.mark.parametrize(
    ("attendees", "duration"),
    [("4 people", "45 min"), ("attendees: 4", "duration 45"), ("at least 4 seats", "a 45-minute slot")],
)
def test_a_meeting_is_read_from_several_ways_to_put_it(attendees: str, duration: str) -> None:
    text = f"On 2026-03-02 at 09:30, {duration}, {attendees}, equipment ['camera'], accessibility required: True."
    assert Meeting.read(text) == Meeting("2026-03-02", "09:30", 45, 4, frozenset({"camera"}), True)


def run_standalone(**options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, offline_model.__file__], stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_by_itself_it_prints_its_address_and_stops_at_a_signal(number: signal.Signals) -> None:
    with run_standalone(stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        base_url = process.stdout.readline().strip()
        with OpenAI(api_key="any", base_url=base_url) as client:
            assert say(client, "Hello?")
        os.kill(process.pid, number)
        assert process.stdout.read() == process.stderr.read() == ""
        assert process.wait(10) == 0


def test_it_stops_when_the_pipe_of_its_parent_closes() -> None:
    with run_standalone(stdin=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdin.close()
        assert process.wait(10) == 0


def test_an_offline_model_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="status 1"), offline_model.offline_model():
        pass
