"""The messages to the critic and the editor: read from files, filled in, and the answers unwrapped. Asks no model."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from agentlightning.algorithm import Evaluation

_MOST_SHOWN = 24_000
_CUT = " [...] "
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


def editors(paths: Sequence[str | Path] | None, ours: str = "editor_*.txt") -> list[Instructions]:
    """The styles of editing: the given files, or ours; each says `$prompt_template` and `$critique`.

    Args:
        paths: The files. None: ours.
        ours: Which of ours.

    Raises:
        ValueError: When a file cannot be read or lacks one of the two.
    """
    return _load(ours, paths, needs=("prompt_template", "critique"))


def block(tag: str, text: str, **attributes: object) -> str:
    """Text between tags, each on a line of its own."""
    head = "".join(f' {name}="{_quotable(value)}"' for name, value in attributes.items())
    return f"<{tag}{head}>\n{text}\n</{tag}>"


def told(trace: Sequence[Any]) -> list[Any]:
    """What the critic is shown of a rollout: its last conversation, which holds those before it, or all there is."""
    entries = [entry for entry in trace if not (isinstance(entry, Mapping) and entry.get("error"))]
    conversations = [entry["messages"] for entry in entries if isinstance(entry, Mapping) and "messages" in entry]
    return list(conversations[-1]) if conversations else entries


def rollout_blocks(evaluations: Sequence[Evaluation], traces: Sequence[Sequence[Any]]) -> str:
    """Rollouts as the critic sees them: what was said in each as JSON, shortened if it is long, and why it failed."""
    cap = _MOST_SHOWN // max(len(evaluations), 1)
    pairs = zip(evaluations, traces, strict=True)
    return "\n".join(_rollout_block(number, *pair, cap) for number, pair in enumerate(pairs, 1))


def shortened(text: str, cap: int) -> str:
    """A text without its middle, if it is too long."""
    if len(text) <= cap:
        return text
    half = max((cap - len(_CUT)) // 2, 0)
    return text[:half] + _CUT + text[len(text) - half :]


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


def _rollout_block(number: int, evaluation: Evaluation, trace: Sequence[Any], cap: int) -> str:
    body = shortened(json.dumps(told(trace), ensure_ascii=False, default=str), cap)
    if evaluation.failure is not None:
        body += f"\n<error>{evaluation.failure}</error>"
    return block("rollout", body, number=number, status=evaluation.rollout.status, reward=evaluation.score)


def _quotable(value: object) -> str:
    return str(value).replace('"', "'").replace("\n", " ")
