"""The critic and the editor: language models, asked so that no answer can depend on timing. Knows no store."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from agentlightning import AlgorithmError

from agentlightning_algorithms.apo.candidate import Branch, fault_of, live
from agentlightning_algorithms.apo.prompts import Instructions, block, unwrap
from agentlightning_algorithms.apo.settings import Settings
from agentlightning_algorithms.apo.trials import settle
from agentlightning_algorithms.lab import Lab, ModelError

_log = logging.getLogger("agentlightning.algorithm.apo")


class Optimizer:
    """Criticises prompts by their rollouts and edits them.

    All branches are criticised, then all are edited, then the rejected edits are repaired: were one branch edited while
    another is criticised, the order of equal requests would depend on which critique came first.

    Attributes:
        critics: The styles of criticising.
        editors: The styles of editing.
        calls: How many times a model was asked.
    """

    def __init__(
        self,
        lab: Lab,
        settings: Settings,
        critics: Sequence[Instructions],
        editors: Sequence[Instructions],
    ) -> None:
        self._lab = lab
        self._settings = settings
        self.critics = critics
        self.editors = editors
        self.calls = 0

    async def improve(self, branches: Sequence[Branch], existing: Mapping[str, str]) -> None:
        """Find for each branch a critique and an edit that can be tried, or drop it.

        Args:
            branches: What to improve, evaluated.
            existing: The texts that there are, and the version of each.

        Raises:
            AlgorithmError: When the models answered for none of the branches.
        """
        await self._criticise(branches)
        await self._edit(live(branches), {})
        await self._repair(live(branches), existing)
        if branches and all(branch.error for branch in branches):
            raise self._silence(branches) from branches[-1].error

    async def _criticise(self, branches: Sequence[Branch]) -> None:
        model = self._settings.gradient_model
        asked = [(f"{branch.step}/critique", _critic_message(branch)) for branch in branches]
        answers = await self._ask_all(model, asked)
        for branch, answer in zip(branches, answers, strict=True):
            branch.critique = _taken(branch, answer)
            if branch.critique:
                _log.info("%s Critique by %s with %s: %s", branch.prefix, model, branch.critic.name, branch.critique)
            elif branch.dropped is None:
                branch.drop("the critique is empty")

    async def _edit(self, branches: Sequence[Branch], faults: Mapping[str, str]) -> None:
        model = self._settings.apply_edit_model
        what = "repair" if faults else "edit"
        asked = [(f"{b.step}/{what}", _editor_message(b, faults.get(b.version))) for b in branches]
        for branch, answer in zip(branches, await self._ask_all(model, asked), strict=True):
            branch.edit = unwrap(_taken(branch, answer))
            _log.info('%s Edit by %s with %s: "%.50s..."', branch.prefix, model, branch.editor.name, branch.edit)

    async def _repair(self, branches: Sequence[Branch], existing: Mapping[str, str]) -> None:
        faults = {branch.version: fault for branch in branches if (fault := _fault(branch, existing))}
        rejected = [branch for branch in branches if branch.version in faults]
        for branch in rejected:
            branch.faults.append(faults[branch.version])
        await self._edit(rejected, faults)
        for branch in live(rejected):
            if fault := _fault(branch, existing):
                branch.faults.append(fault)
                branch.drop(f"the edit was rejected twice: {fault}")

    async def _ask_all(self, model: str, asked: Sequence[tuple[str, str]]) -> list[str | ModelError]:
        """Ask everything at once, except that of equal messages each waits for the one before it."""
        places: dict[str, list[int]] = defaultdict(list)
        for place, (_, message) in enumerate(asked):
            places[message].append(place)
        answers: dict[int, str | ModelError] = {}

        async def ask_in_turn(message: str) -> None:
            for place in places[message]:
                answers[place] = await self._ask(asked[place][0], model, message)

        await settle(map(ask_in_turn, places))
        return [answers[place] for place in range(len(asked))]

    async def _ask(self, step: str, model: str, message: str) -> str | ModelError:
        try:
            answer: str | ModelError = await self._lab.ask(step, model, message)
        except ModelError as error:  # it costs a branch and not the run
            answer = error
        self.calls += 1
        return answer

    def _silence(self, branches: Sequence[Branch]) -> AlgorithmError:
        last = branches[-1].error
        return AlgorithmError(
            f"the models answered for none of the {len(branches)} branches of the round; the last error: {last}. "
            "Check the client's base URL and key and the models' names: "
            f"gradient_model={self._settings.gradient_model!r}, apply_edit_model={self._settings.apply_edit_model!r}"
        )


def _taken(branch: Branch, answer: str | ModelError) -> str:
    """The answer; where there is none, the branch is dropped."""
    if isinstance(answer, str):
        return answer
    branch.error = answer
    branch.drop(str(answer), logging.ERROR)
    return ""


def _fault(branch: Branch, existing: Mapping[str, str]) -> str | None:
    return fault_of(branch.edited, branch.parent.template, existing)


def _critic_message(branch: Branch) -> str:
    template = block("prompt_template", branch.parent.template.template)
    return branch.critic.render(prompt_template=template, rollouts=branch.rollouts)


def _editor_message(branch: Branch, fault: str | None) -> str:
    message = branch.editor.render(
        prompt_template=block("prompt_template", branch.parent.template.template),
        critique=block("critique", branch.critique),
    )
    if fault is None:
        return message
    return f"{message}\n\nThis answer cannot be used; mend what is wrong with it.\n\n" + block(
        "rejected", branch.edit, reason=fault
    )
