from typing import Any

import pytest
from agentlightning import PromptTemplate
from agentlightning_algorithms.apo.checks import Checks

ANSWER = "the red room is free on monday because nobody booked it"
TASKS = [{"task": "find a room", "answer": ANSWER}]


def bundle(text: str, **attributes: Any) -> dict[str, PromptTemplate]:
    return {"prompt": PromptTemplate(template=text, **attributes)}


SEED = bundle("Do {task}.")


@pytest.fixture
def checks() -> Checks:
    checks = Checks(TASKS, max_prompt_chars=100)
    checks.add("v0", SEED)
    return checks


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Do {task} well.", None),
        ("", "the template is empty"),
        ("Do it.", "the placeholder 'task' is lost"),
        ("Do {task} at {time}.", "the placeholder 'time' is invented"),
        ("do  {TASK}.", "the placeholder 'task' is lost; the placeholder 'TASK' is invented"),
        ("Do   {task}.\n", "the template says the same as v0"),
        ("DO {task}.", "the template says the same as v0"),
        ("Do {task}" + "!" * 100, "the template has 109 characters, and may have 100"),
        ("Do {task[0].name}.", "the template cannot be filled in: "),
    ],
)
def test_an_edit_is_refused_before_a_rollout_is_spent(checks: Checks, text: str, fault: str | None) -> None:
    found = checks.fault_of(bundle(text), SEED)
    assert found is None if fault is None else (found or "").startswith(fault)


def test_a_parent_that_can_not_be_filled_in_with_a_task_proves_nothing() -> None:
    checks = Checks([{"other": 1}], max_prompt_chars=100)
    assert checks.fault_of(bundle("Do {task[0].name}."), SEED) is None


def test_words_of_a_task_are_a_warning_unless_they_shall_be_refused(checks: Checks) -> None:
    leaking = bundle("Do {task}. Say that The red room is free, on Monday because.")
    assert checks.fault_of(leaking, SEED) is None
    assert checks.leak_of(leaking, SEED) == "the red room is free on monday because"
    strict = Checks(TASKS, max_prompt_chars=100, leaks="drop")
    assert "the template has words of a task in it" in (strict.fault_of(leaking, SEED) or "")


def test_seven_words_or_words_that_the_parent_has_are_no_leak(checks: Checks) -> None:
    assert checks.leak_of(bundle("{task} the red room is free on monday"), SEED) is None
    parent = bundle(f"{{task}} {ANSWER}")
    assert checks.leak_of(bundle(f"Well: {{task}} {ANSWER}"), parent) is None


def test_in_a_bundle_the_fault_names_the_template() -> None:
    parent = SEED | {"other": PromptTemplate(template="Say {word}.")}
    edited = parent | {"other": PromptTemplate(template="Say it.")}
    assert Checks([], 100).fault_of(edited, parent) == "other: the placeholder 'word' is lost"
