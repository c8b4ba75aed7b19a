"""What an edit must keep before a rollout is spent on it: static checks of its text. Runs nothing and asks nobody."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agentlightning import PromptTemplate, PromptTemplateError
from pydantic_core import to_jsonable_python

from agentlightning_algorithms.apo.candidate import fault_of

_WORDS_OF_A_LEAK = 8

Bundle = Mapping[str, PromptTemplate]
"""The templates that are tuned together, by name."""


@dataclass
class Checks:
    """The static checks of one search.

    Attributes:
        tasks: The tasks of both data sets, whose data must not end up in a prompt.
        max_prompt_chars: The greatest length of one template.
        leaks: Whether an edit with words of a task is only warned of or dropped.
        existing: The bundles that there were, normalised, and the version of each.
    """

    tasks: Sequence[Any]
    max_prompt_chars: int
    leaks: Literal["warn", "drop"] = "warn"
    existing: dict[tuple[str, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._grams = {gram for task in self.tasks for text in _texts(_jsonable(task)) for gram in _grams(text)}
        self._samples = [sample for task in self.tasks[:1] if isinstance(sample := _jsonable(task), dict)]

    def add(self, version: str, bundle: Bundle) -> None:
        """Know a bundle, so that no later one may say the same."""
        self.existing.setdefault(_normalised(bundle), version)

    def fault_of(self, edited: Bundle, parent: Bundle) -> str | None:
        """Why an edit cannot be tried, in words for the editor; None when it can."""
        faults = [
            f"{name}: {fault}" if len(parent) > 1 else fault
            for name in edited
            if edited[name] != parent[name] and (fault := self._fault(edited[name], parent[name]))
        ]
        if not faults and (twin := self.existing.get(_normalised(edited))):
            return f"the template says the same as {twin}"
        return "; ".join(faults) or None

    def leak_of(self, edited: Bundle, parent: Bundle) -> str | None:
        """Words in a row that the edit has from a task, and its parent does not."""
        for name, template in edited.items():
            had = set(_grams(parent[name].template))
            for gram in _grams(template.template):
                if gram in self._grams and gram not in had:
                    return gram
        return None

    def _fault(self, edited: PromptTemplate, parent: PromptTemplate) -> str | None:
        if len(edited.template) > self.max_prompt_chars:
            return f"the template has {len(edited.template)} characters, and may have {self.max_prompt_chars}"
        fault = fault_of(edited, parent, {})
        if fault or edited.engine == "poml":
            return fault
        for sample in self._samples:
            if _error(parent, sample) is None and (error := _error(edited, sample)):
                return f"the template cannot be filled in: {error}"
        if self.leaks == "drop" and (gram := self.leak_of({"": edited}, {"": parent})):
            return f"the template has words of a task in it: {gram!r}; it must hold for any task"
        return None


def _error(template: PromptTemplate, sample: Mapping[str, Any]) -> str | None:
    try:
        template.format(**sample)
    except PromptTemplateError as error:
        return str(error)
    return None


def _jsonable(task: Any) -> Any:
    return to_jsonable_python(task, fallback=str)


def _texts(data: Any) -> Iterator[str]:
    match data:
        case str():
            yield data
        case dict():
            for value in data.values():
                yield from _texts(value)
        case list():
            for value in data:
                yield from _texts(value)


def _grams(text: str) -> Iterable[str]:
    words = re.findall(r"\w+", text.casefold())
    return (" ".join(words[start : start + _WORDS_OF_A_LEAK]) for start in range(len(words) - _WORDS_OF_A_LEAK + 1))


def _normalised(bundle: Bundle) -> tuple[str, ...]:
    return tuple(" ".join(bundle[name].template.split()).casefold() for name in sorted(bundle))
