"""Reflective mutation: what a prompt gets wrong on a few tasks, edits that mend it, and the gate. Knows no race."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from agentlightning import AlgorithmError, NamedResources
from agentlightning.algorithm import Evaluation, mean_reward

from agentlightning_algorithms.apo.checks import Bundle, Checks
from agentlightning_algorithms.apo.contender import Contender
from agentlightning_algorithms.apo.digest import digest, no_traces
from agentlightning_algorithms.apo.edit import Edit, Editing
from agentlightning_algorithms.apo.paired import Scores
from agentlightning_algorithms.apo.prompts import Instructions
from agentlightning_algorithms.apo.trials import Trials, settle

_log = logging.getLogger("agentlightning.algorithm.apo")


@dataclass
class Minibatch:
    """What came of one prompt on a few training tasks.

    Attributes:
        tasks: The tasks.
        evaluations: What came of them.
    """

    tasks: Sequence[int]
    evaluations: Sequence[Evaluation]

    @property
    def scores(self) -> Scores:
        """The score on each task."""
        return {task: each.score for task, each in zip(self.tasks, self.evaluations, strict=True)}


@dataclass
class Reflection:
    """Makes challengers of a prompt.

    Attributes:
        trials: Where rollouts and answers come from.
        initial: The resources to start from; those that are not tuned are carried along as they are.
        train_size: How many training tasks there are.
        checks: What an edit must keep.
        critics: The styles of criticising.
        editors: The styles of editing.
        made: All contenders so far, dropped ones included.
    """

    trials: Trials
    initial: NamedResources
    train_size: int
    checks: Checks
    critics: Sequence[Instructions]
    editors: Sequence[Instructions]
    made: list[Contender] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._looks: dict[str, int] = {}
        self._perfect: dict[str, int] = {}
        self._editing = Editing(self.trials, self.checks)

    async def seed(self, bundle: Bundle) -> Contender:
        """The contender that everything starts from."""
        return await self._adopt(Contender("v0", bundle, "seed"))

    def is_perfect(self, contender: Contender) -> bool:
        """Whether it was perfect on every minibatch of an epoch, so that nothing can be learnt from it."""
        return self._perfect.get(contender.version, 0) >= self._batches

    async def look(self, parent: Contender) -> Minibatch | None:
        """Try a prompt on the next minibatch that it was not yet tried on. None: it is perfect there.

        Raises:
            AlgorithmError: When no rollout says anything about the agent.
        """
        number = self._looks.get(parent.version, 0)
        self._looks[parent.version] = number + 1
        tasks = self._minibatch(parent, number)
        evaluations = await self.trials.on_train(f"train/{parent.version}/{number}", parent, tasks)
        mean_reward(evaluations)
        scores = [each.score for each in evaluations if each.score is not None]
        if all(score >= self.trials.perfect for score in scores):
            _log.info("[%s] Perfect on %d training tasks: nothing to learn from them", parent.version, len(tasks))
            self._perfect[parent.version] = self._perfect.get(parent.version, 0) + 1
            return None
        self._perfect[parent.version] = 0
        return Minibatch(tasks, evaluations)

    async def challengers(
        self, step: str, parent: Contender, seen: Minibatch, components: Sequence[str], width: int
    ) -> list[Contender]:
        """Edits of a prompt that can be tried and do better than it on what it was criticised on.

        Args:
            step: Where the search is.
            parent: The prompt.
            seen: What it came to.
            components: Which of its templates to edit.
            width: How many edits to try.

        Raises:
            AlgorithmError: When there are no traces to criticise, or the models do not answer any more.
        """
        edits = self._edits(step, parent, components, width)
        self.made += [edit.contender for edit in edits]
        await self._editing.write(edits, await self._digest(seen))
        adopted = await settle(self._adopt(edit.contender) for edit in edits if edit.contender.dropped is None)
        return await self._gate(adopted, parent, seen)

    @property
    def _batches(self) -> int:
        return ceil(self.train_size / self.trials.settings.minibatch_size)

    def _minibatch(self, parent: Contender, number: int) -> list[int]:
        """Batches go through all training tasks in a new order each time; the last of an epoch may be smaller."""
        epoch, place = divmod(number, self._batches)
        size = self.trials.settings.minibatch_size
        order = self.trials.lab.random(f"train/{parent.version}/epoch{epoch}").sample(
            range(self.train_size), self.train_size
        )
        return order[place * size : (place + 1) * size]

    async def _digest(self, seen: Minibatch) -> str:
        telling = [each for each in seen.evaluations if each.score is not None]
        traces = await self.trials.lab.traces(telling)
        if not any(traces):
            raise AlgorithmError(no_traces(telling, "nothing"))
        return digest(telling, traces, self.trials.perfect)

    def _edits(self, step: str, parent: Contender, components: Sequence[str], width: int) -> list[Edit]:
        random = self.trials.lab.random(f"{step}/styles")
        critics = random.sample(self.critics, len(self.critics))
        editors = random.sample(self.editors, len(self.editors))
        return [
            Edit(
                Contender(
                    f"v{len(self.made) + place}",
                    dict(parent.bundle),
                    f"{step}/{place}",
                    parent=parent,
                    components=components,
                    at_rollouts=self.trials.asked,
                ),
                critics[place % len(critics)],
                editors[place % len(editors)],
            )
            for place in range(width)
        ]

    async def _adopt(self, contender: Contender) -> Contender:
        """Make a candidate of it."""
        parent = contender.parent.resources if contender.parent else None
        resources: NamedResources = {**self.initial, **contender.bundle}
        contender.resources = await self.trials.lab.add(f"add/{contender.version}", resources, parent)
        self.checks.add(contender.version, contender.bundle)
        if contender.parent is None:
            self.made.append(contender)
        return contender

    async def _gate(self, children: Sequence[Contender], parent: Contender, seen: Minibatch) -> list[Contender]:
        tried = await settle(self.trials.on_train(f"gate/{child.version}", child, seen.tasks) for child in children)
        return [
            child
            for child, evaluations in zip(children, tried, strict=True)
            if self._passes(child, parent, seen.scores, Minibatch(seen.tasks, evaluations).scores)
        ]

    def _passes(self, child: Contender, parent: Contender, before: Scores, after: Scores) -> bool:
        pairs = [(old, new) for task, old in before.items() if old is not None and (new := after[task]) is not None]
        old, new = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
        passes = new > old or (new == old and bool(pairs) and child.length < parent.length)
        self.trials.lab.decide(
            child.step,
            "gate",
            version=child.version,
            parent=parent.version,
            passed=passes,
            total=new,
            parent_total=old,
            tasks=len(pairs),
        )
        _log.info("[%s] Gate: %.2f against %.2f of %s", child.version, new, old, parent.version)
        return passes
