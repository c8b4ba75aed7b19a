"""Finds new texts by `gepa`'s own message and refuses those that cannot be tried. Knows no rollouts and no store."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentlightning import PromptTemplate
from gepa.proposer.reflective_mutation.reflection_lm import ReflectionProposal
from gepa.strategies.instruction_proposal import InstructionProposalSignature

from agentlightning_algorithms.apo.candidate import fault_of
from agentlightning_algorithms.gepa.record import Record

_log = logging.getLogger("agentlightning.algorithm.gepa")

_ANSWERS = 2


@dataclass
class Proposal:
    """A new text for one name.

    Attributes:
        text: The last text that was proposed.
        said: The model's answers.
        faults: What was wrong with each, but for a last one that can be tried.
    """

    text: str
    said: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def is_usable(self) -> bool:
        """Whether the text can be tried."""
        return len(self.said) > len(self.faults)


@dataclass
class Reflection:
    """What `gepa` asks for new texts.

    A text that loses a placeholder, invents one or repeats what there is already is sent back once and then dropped,
    before any rollout is spent on it.

    Attributes:
        ask: Puts a message to the model, under a step.
        record: Where candidates are noted.
        templates: The initial templates by their names.
        messages: The message's template, or one for each name; None: `gepa`'s own.
        spent: Says how many rollouts have been spent.
        step: The iteration that goes on.
    """

    ask: Callable[[str, str], str | None]
    record: Record
    templates: Mapping[str, PromptTemplate]
    messages: str | Mapping[str, str] | None
    spent: Callable[[], int]
    step: str = "seed"

    def reflect(
        self,
        candidate: Mapping[str, str],
        reflective_dataset: Mapping[str, Sequence[Any]],
        components_to_update: Sequence[str],
    ) -> tuple[ReflectionProposal, "Reflection"]:
        """New texts for some names of a candidate; none for those of which no proposal can be tried."""
        texts = dict(candidate)
        proposals: dict[str, Proposal] = {}
        for name in components_to_update:
            proposals[name] = self._propose(name, texts, reflective_dataset[name])
            if proposals[name].is_usable:
                texts[name] = proposals[name].text
        self._note(candidate, texts, proposals)
        changes = {name: text for name, text in texts.items() if text != candidate[name]}
        return ReflectionProposal(new_texts=changes), self

    def _propose(self, name: str, texts: Mapping[str, str], examples: Sequence[Any]) -> Proposal:
        message = self._message(name, texts[name], examples)
        proposal = Proposal(texts[name])
        while not proposal.is_usable and len(proposal.said) < _ANSWERS:
            answer = self.ask(self.step, message + _complaint(proposal))
            if answer is None:
                break
            proposal.said.append(answer)
            proposal.text = InstructionProposalSignature.output_extractor(answer)["new_instruction"]
            if fault := self._fault(name, proposal.text, texts):
                _log.warning("%s: the new text for %r cannot be used: %s", self.step, name, fault)
                proposal.faults.append(fault)
        return proposal

    def _message(self, name: str, text: str, examples: Sequence[Any]) -> str:
        own = self.messages if self.messages is None or isinstance(self.messages, str) else self.messages.get(name)
        message: str = InstructionProposalSignature.prompt_renderer(
            {"current_instruction_doc": text, "dataset_with_feedback": examples, "prompt_template": own}
        )
        if placeholders := sorted(self.templates[name].placeholders):
            message += (
                "\n\nThe instruction is a template that is filled in for each task. Keep its placeholders as they are "
                f"written there, and add none: {', '.join(placeholders)}."
            )
        return message

    def _fault(self, name: str, text: str, texts: Mapping[str, str]) -> str | None:
        original = self.templates[name]
        edited = original.model_copy(update={"template": text})
        return fault_of(edited, original, self.record.rivals(texts, name))

    def _note(self, candidate: Mapping[str, str], texts: Mapping[str, str], proposals: Mapping[str, Proposal]) -> None:
        """Keep what came of it, also when nothing can be tried."""
        said = [answer for proposal in proposals.values() for answer in proposal.said]
        if not said:
            return
        faults = [fault for proposal in proposals.values() for fault in proposal.faults]
        is_usable = any(proposal.is_usable for proposal in proposals.values())
        rejected = {name: proposal.text for name, proposal in proposals.items()}
        self.record.add(
            texts if is_usable else {**texts, **rejected},
            parents=[self.record.of(candidate, self.step)],
            step=self.step,
            critique="\n\n".join(said),
            edit_faults=faults,
            dropped=None if is_usable else f"no text that can be tried: {faults[-1]}",
            at_rollouts=self.spent(),
        )


def _complaint(proposal: Proposal) -> str:
    if not proposal.faults:
        return ""
    return (
        f"\n\nThis instruction was proposed and cannot be used: {proposal.faults[-1]}. Mend what is wrong with it.\n"
        f"```\n{proposal.text}\n```"
    )
