"""From a digest of rollouts to new texts of templates: critique, edit, static checks, one repair. Runs no rollout."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentlightning_algorithms.apo.checks import Bundle, Checks
from agentlightning_algorithms.apo.contender import Contender
from agentlightning_algorithms.apo.prompts import Instructions, block, unwrap
from agentlightning_algorithms.apo.trials import Trials, settle
from agentlightning_algorithms.lab import ModelError

_MODEL_FAILURES_TO_STOP = 5
_OPENED = re.compile(r"<prompt_template\b[^>]*>")
_CLOSED = "</prompt_template>"
_NAMED = re.compile(r'<prompt_template name="([^"]*)">(.*?)</prompt_template>', re.DOTALL)

_log = logging.getLogger("agentlightning.algorithm.apo")


@dataclass
class Edit:
    """One edit on its way to be a candidate.

    Attributes:
        contender: What it leads to.
        critic: How the critic is asked.
        editor: How the editor is asked.
        answer: The editor's last answer.
        fault: Why it cannot be used. None: it can.
        answered: For each time that a model was asked, whether it answered.
    """

    contender: Contender
    critic: Instructions
    editor: Instructions
    answer: str = ""
    fault: str | None = None
    answered: list[bool] = field(default_factory=list)


@dataclass
class Editing:
    """Asks the critic and the editor.

    Attributes:
        trials: Where answers come from.
        checks: What an edit must keep.
        silent: How many times in a row a model did not answer.
    """

    trials: Trials
    checks: Checks
    silent: int = 0

    async def write(self, edits: Sequence[Edit], rollouts: str) -> None:
        """Give each edit its text, or drop it.

        Edits are written side by side. Repairs wait for all of them, so that which of them the calls that are left pay
        for does not depend on which was first.

        Raises:
            ModelError: When the models have not answered five times in a row.
        """
        await settle(self._write(edit, rollouts) for edit in edits)
        self._drop_twins(edits)
        faulty = [edit for edit in _live(edits) if edit.fault]
        calls = self.trials.room().optimizer_calls
        await settle(self._repair(edit) for edit in (faulty if calls is None else faulty[:calls]))
        self._drop_twins(edits)
        for edit in _live(edits):
            self._conclude(edit)
        self._listen(edits)

    async def _write(self, edit: Edit, rollouts: str) -> None:
        message = edit.critic.render(prompt_template=_templates(edit.contender), rollouts=rollouts)
        edit.contender.critique = await self._ask(edit, "critique", self.trials.settings.gradient_model, message)
        if edit.contender.dropped is None and not edit.contender.critique:
            edit.contender.drop("the critique is empty")
        if edit.contender.dropped is None:
            _log.info("[%s] Critique with %s: %s", edit.contender.version, edit.critic.name, edit.contender.critique)
            await self._edit(edit, "edit", _editor_message(edit))

    async def _repair(self, edit: Edit) -> None:
        rejected = block("rejected", edit.answer, reason=edit.fault)
        message = f"{_editor_message(edit)}\n\nThis answer cannot be used; mend what is wrong with it.\n\n{rejected}"
        await self._edit(edit, "repair", message)

    async def _edit(self, edit: Edit, what: str, message: str) -> None:
        edit.answer = await self._ask(edit, what, self.trials.settings.apply_edit_model, message)
        if edit.contender.dropped is None:
            edit.fault = self._take(edit.contender, edit.answer)
            if edit.fault:
                edit.contender.edit_faults.append(edit.fault)

    async def _ask(self, edit: Edit, what: str, model: str, message: str) -> str:
        try:
            answer = await self.trials.ask(f"{edit.contender.step}/{what}", model, message)
        except ModelError as error:
            edit.answered.append(False)
            edit.contender.drop(str(error))
            return ""
        edit.answered.append(True)
        return answer.strip()

    def _take(self, contender: Contender, answer: str) -> str | None:
        """Read the new templates from an answer; what is wrong with them."""
        assert contender.parent is not None
        parent = contender.parent.bundle
        texts, fault = _texts(answer, contender.components)
        edited = {name: parent[name].model_copy(update={"template": text}) for name, text in texts.items()}
        contender.bundle = {**parent, **edited}
        return fault or self.checks.fault_of(contender.bundle, parent)

    def _drop_twins(self, edits: Sequence[Edit]) -> None:
        """Of edits without a fault that say the same, the first stays."""
        first: dict[str, str] = {}
        for edit in _live(edits):
            if edit.fault is None:
                text = " ".join(_texts_of(edit.contender.bundle).split()).casefold()
                twin = first.setdefault(text, edit.contender.version)
                if twin != edit.contender.version:
                    edit.contender.drop(f"the edit says the same as {twin}")

    def _conclude(self, edit: Edit) -> None:
        contender = edit.contender
        assert contender.parent is not None
        if edit.fault:
            contender.drop(f"the edit was rejected: {edit.fault}")
            self.trials.lab.decide(contender.step, "drop", version=contender.version, reason=edit.fault)
        elif leak := self.checks.leak_of(contender.bundle, contender.parent.bundle):
            _log.warning("[%s] The edit has words of a task in it: %r", contender.version, leak)

    def _listen(self, edits: Sequence[Edit]) -> None:
        """Count what did not answer, in the order of the edits."""
        for edit in edits:
            for answered in edit.answered:
                self.silent = 0 if answered else self.silent + 1
                if self.silent >= _MODEL_FAILURES_TO_STOP:
                    raise ModelError(
                        f"the models did not answer {self.silent} times in a row; the last time: "
                        f"{edit.contender.dropped}. Check the client's base URL and key and the models' names: "
                        f"gradient_model={self.trials.settings.gradient_model!r}, "
                        f"apply_edit_model={self.trials.settings.apply_edit_model!r}; then resume the run"
                    )


def _live(edits: Sequence[Edit]) -> list[Edit]:
    return [edit for edit in edits if edit.contender.dropped is None]


def _texts_of(bundle: Bundle) -> str:
    return "\n\n".join(bundle[name].template for name in sorted(bundle))


def _templates(contender: Contender) -> str:
    """The templates in blocks: those to edit, and the others that they work with."""
    assert contender.parent is not None
    bundle = contender.parent.bundle
    if len(bundle) == 1:
        return block("prompt_template", _texts_of(bundle))
    tags = {name: "prompt_template" if name in contender.components else "other_template" for name in bundle}
    return "\n\n".join(block(tags[name], template.template, name=name) for name, template in bundle.items())


def _editor_message(edit: Edit) -> str:
    contender = edit.contender
    critique = block("critique", contender.critique)
    message = edit.editor.render(prompt_template=_templates(contender), critique=critique)
    if len(contender.bundle) == 1:
        return message
    wanted = "\n\n".join(block("prompt_template", "...", name=name) for name in contender.components)
    return (
        f"{message}\n\nThe agent works with several templates. Change these alone, and answer with the full text of "
        f"each between its tags:\n\n{wanted}"
    )


def _texts(answer: str, components: Sequence[str]) -> tuple[Mapping[str, str], str | None]:
    """The new texts in an answer, and what is wrong with its marks."""
    if len(_OPENED.findall(answer)) != answer.count(_CLOSED):
        return {}, "the answer is cut off: a <prompt_template> is not closed, or closed and never opened"
    found = dict(_NAMED.findall(answer))
    texts = {name: found[name].strip() for name in components if name in found}
    if len(components) == 1 and not texts:
        return {components[0]: unwrap(_OPENED.sub("<prompt_template>", answer))}, None
    missing = [name for name in components if name not in found]
    return texts, f'the answer has no <prompt_template name="{missing[0]}">' if missing else None
