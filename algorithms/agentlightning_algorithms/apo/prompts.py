"""The messages to the critic and the editor: read from files, filled in, and the answers unwrapped. Asks no model."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from agentlightning.algorithm import Evaluation

_TAGGED = re.compile(r"<prompt_template>(.*)</prompt_template>", re.DOTALL)
_FENCED = re.compile(r"\A```[^\n]*\n(.*?)\n?```\Z", re.DOTALL)


@dataclass(frozen=True)
class Instructions:
    """One style of instructions, with `$name` where a block goes.

    Attributes:
        name: The file's name, for the log.
        text: The text of the file.
    """

    name: str
    text: str

    def render(self, **blocks: str) -> str:
        """Put the blocks in their places."""
        return Template(self.text).safe_substitute(blocks)


def critics(paths: Sequence[str | Path] | None) -> list[Instructions]:
    """The styles of criticising: the given files, or ours; each says `$prompt_template` and `$rollouts`.

    Raises:
        ValueError: When a file cannot be read or lacks one of the two.
    """
    return _load("critic_*.txt", paths, needs=("prompt_template", "rollouts"))


def editors(paths: Sequence[str | Path] | None) -> list[Instructions]:
    """The styles of editing: the given files, or ours; each says `$prompt_template` and `$critique`.

    Raises:
        ValueError: When a file cannot be read or lacks one of the two.
    """
    return _load("editor_*.txt", paths, needs=("prompt_template", "critique"))


def block(tag: str, text: str, **attributes: object) -> str:
    """Text between tags, each on a line of its own."""
    head = "".join(f' {name}="{_quotable(value)}"' for name, value in attributes.items())
    return f"<{tag}{head}>\n{text}\n</{tag}>"


def rollout_block(number: int, evaluation: Evaluation, messages: Sequence[Any]) -> str:
    """One rollout as the critic sees it: its conversation as JSON, and why it failed if it did."""
    body = json.dumps(messages, ensure_ascii=False, default=str)
    if evaluation.failure is not None:
        body += f"\n<error>{evaluation.failure}</error>"
    return block("rollout", body, number=number, status=evaluation.rollout.status, reward=evaluation.score)


def unwrap(answer: str) -> str:
    """The template in an editor's answer, without the tags or the fence that models like to put around it."""
    tagged = _TAGGED.search(answer)
    text = (tagged[1] if tagged else answer).strip()
    fenced = _FENCED.match(text)
    return fenced[1].strip() if fenced else text


def _load(ours: str, paths: Sequence[str | Path] | None, needs: Iterable[str]) -> list[Instructions]:
    if paths is None:
        paths = sorted(Path(__file__).parent.glob(ours))
    if not paths:
        raise ValueError("no prompt file is given: name at least one, or leave the parameter out to use ours")
    return [_read(Path(path), needs) for path in paths]


def _read(path: Path, needs: Iterable[str]) -> Instructions:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read the prompt file {str(path)!r}: {error.strerror}") from error
    missing = sorted(set(needs) - set(Template(text).get_identifiers()))
    if missing:
        wanted = " and ".join(f"${name}" for name in missing)
        raise ValueError(f"the prompt file {str(path)!r} lacks {wanted}: write it where that text shall go")
    return Instructions(path.name, text)


def _quotable(value: object) -> str:
    return str(value).replace('"', "'").replace("\n", " ")
