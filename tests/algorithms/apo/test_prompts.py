from pathlib import Path

import pytest
from agentlightning_algorithms.apo.prompts import block, critics, editors, unwrap


def test_there_are_several_styles_of_criticising_and_editing() -> None:
    assert [critic.name for critic in critics(None)] == [
        "critic_changes.txt",
        "critic_diagnosis.txt",
        "critic_missing_rules.txt",
    ]
    assert [editor.name for editor in editors(None)] == ["editor_focused.txt", "editor_rewrite.txt"]


def test_blocks_are_put_in_as_they_are() -> None:
    template = block("prompt_template", "It costs $5, or $rollouts. {x}")
    for critic in critics(None):
        message = critic.render(prompt_template=template, rollouts="<rollout/>")
        assert template in message
        assert message.count("<rollout/>") == 1


def test_a_file_that_leaves_out_what_it_is_for_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("Improve $prompt_template")
    with pytest.raises(ValueError, match=r"mine.txt' lacks \$critique"):
        editors([file])


def test_quotes_cannot_end_an_attribute() -> None:
    assert block("rejected", "x", reason='say "no"') == "<rejected reason=\"say 'no'\">\nx\n</rejected>"


@pytest.mark.parametrize(
    "answer",
    [
        "Go: {x}",
        "  Go: {x}\n",
        "```\nGo: {x}\n```",
        "```text\nGo: {x}\n```",
        "<prompt_template>\nGo: {x}\n</prompt_template>",
        "Here it is:\n<prompt_template>\nGo: {x}\n</prompt_template>\nGood luck!",
        "```\n<prompt_template>\nGo: {x}\n</prompt_template>\n```",
    ],
)
def test_an_answer_is_unwrapped(answer: str) -> None:
    assert unwrap(answer) == "Go: {x}"


def test_a_fence_inside_a_template_stays() -> None:
    assert unwrap("Go:\n```\n{x}\n```\nNow.") == "Go:\n```\n{x}\n```\nNow."
