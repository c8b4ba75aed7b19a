"""The beam search over prompts: which prompt is tried on which tasks, and what is kept. Knows no model's API."""

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, groupby, islice, product
from random import Random
from typing import Any

from agentlightning import AlgorithmError, NamedResources, PromptTemplate
from agentlightning.algorithm import Evaluation, mean_reward

from agentlightning_algorithms.apo.candidate import Branch, Candidate, draw_waves, live
from agentlightning_algorithms.apo.digest import no_traces
from agentlightning_algorithms.apo.optimizer import Optimizer
from agentlightning_algorithms.apo.prompts import rollout_blocks, shortened, told
from agentlightning_algorithms.apo.settings import Settings
from agentlightning_algorithms.apo.trials import settle
from agentlightning_algorithms.lab import BudgetSpent, Lab, Split

_WIDTH = 200
_log = logging.getLogger("agentlightning.algorithm.apo")


@dataclass
class BeamSearch:
    """One search, from the seed to the best prompt, or to the end of the budget.

    Whatever can run at once does, but nothing depends on what ends first: all random draws of a step are made before
    it starts, results are taken in the order of the tasks and of the branches, and no prompt is ever tried on a task
    while the same try is still under way.

    Attributes:
        settings: What was chosen.
        optimizer: The critic and the editor.
        lab: Where rollouts are done.
        initial: The resources to start from; all but one are carried along as they are.
        name: The one that is tuned.
        original: Its initial value.
        train: The tasks that prompts are criticised on.
        val: The tasks that prompts are chosen by.
        notify: Told of the phase, the rollouts done and those expected.
        on_better: Awaited whenever `best` changes.
        best: The best prompt so far and its mean reward on all of `val`.
        stopped_by: The limit that ended the search. None: none did.
    """

    settings: Settings
    optimizer: Optimizer
    lab: Lab
    initial: NamedResources
    name: str
    original: PromptTemplate
    train: Sequence[Any]
    val: Sequence[Any]
    notify: Callable[[str, int, int], None]
    on_better: Callable[[], Awaitable[None]]
    best: tuple[Candidate, float] | None = None
    stopped_by: str | None = None

    def __post_init__(self) -> None:
        self._rng = Random(self.settings.seed)
        self._expected = self.settings.estimate(len(self.train), len(self.val)).rollouts
        self._enqueued = self._done = 0
        self._baseline: float | None = None
        self._candidates: list[Candidate] = []
        self._branches: list[Branch] = []
        self._rounds: list[dict[str, Any]] = []
        self._failures: Counter[str] = Counter()
        self._curve: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Search to the end, or as far as the budget goes.

        Raises:
            AlgorithmError: When rollouts give no rewards or no traces, or the models do not answer.
        """
        try:
            await self._search()
        except BudgetSpent as spent:
            self.stopped_by = spent.limit
            _log.warning("The search ends: %s", spent)

    async def _search(self) -> None:
        seed = await self._add("v0", self.original)
        if self.settings.run_initial_validation:
            _log.info("%s Evaluating seed prompt on validation dataset before optimization...", _prefix(0, seed))
            self._baseline = await self._validate(0, seed)
            _log.info("%s Seed prompt baseline score: %.3f", _prefix(0, seed), self._baseline)
        beam = [seed]
        for number in range(1, self.settings.beam_rounds + 1):
            _log.info("[Round %02d] Round %d/%d...", number, number, self.settings.beam_rounds)
            beam = await self._round(number, beam)

    def summary(self) -> dict[str, Any]:
        """What happened so far, JSON-able."""
        best, score = self.best or (None, None)
        unedited: dict[str, Any] = {
            "parent": None,
            "dropped": None,
            "critique": "",
            "step": "add/v0",
            "edit_faults": [],
        }
        seed = [candidate.describe() | unedited for candidate in self._candidates[:1]]
        records = seed + [branch.describe() for branch in self._branches]
        return {
            "baseline_score": self._baseline,
            "best_score": score,
            "best_version": best.version if best else None,
            "selection": "full",
            "stopped_by": self.stopped_by,
            "failures": dict(self._failures) | {"invalid": sum(len(branch.faults) for branch in self._branches)},
            "rollouts": self._enqueued,
            "optimizer_calls": self.optimizer.calls,
            "dropped_branches": sum(branch.dropped is not None for branch in self._branches),
            "settings": asdict(self.settings),
            "candidates": [record | {"component": self.name} for record in records],
            "curve": self._curve + [each | {"rollouts": self._enqueued} for each in self._curve[-1:]],
            "tasks": [self._task(place) for place in range(len(self.val))] if self._candidates else [],
            "rounds": list(self._rounds),
        }

    async def _round(self, number: int, beam: list[Candidate]) -> list[Candidate]:
        branches = self._plan(number, beam)
        self._branches += branches
        await self._try_parents(branches)
        existing = {candidate.template.template: candidate.version for candidate in self._candidates}
        await self.optimizer.improve(live(branches), existing)
        beam = await self._select(number, [*beam, *await self._adopt(branches)])
        score = await self._validate(number, beam[0])
        _log.info("%s Beam leader score: %.3f", _prefix(number, beam[0]), score)
        self._record(number, branches, beam)
        return beam

    def _plan(self, number: int, beam: Sequence[Candidate]) -> list[Branch]:
        """All that is left to chance before the models are asked."""
        settings, rng = self.settings, self._rng
        width, factor = settings.beam_width, settings.branch_factor
        parents = rng.sample(beam, width) if len(beam) == width else list(islice(cycle(beam), width))
        versions = ", ".join(parent.version for parent in parents)
        _log.info("[Round %02d] Applying %d edits to each of the %d parents: %s", number, factor, width, versions)
        waves = draw_waves(
            rng, range(len(self.train)), batch_size=settings.gradient_batch_size, count=settings.branches
        )
        batches = [(wave, tasks) for wave, batches in enumerate(waves) for tasks in batches]
        places = product(range(1, width + 1), range(1, factor + 1))
        return [
            Branch(
                place=(number, beam_place, branch_place),
                version=f"v{len(self._branches) + index}",
                parent=parents[beam_place - 1],
                wave=wave,
                tasks=tasks,
                critic=rng.choice(self.optimizer.critics),
                editor=rng.choice(self.optimizer.editors),
            )
            for index, ((beam_place, branch_place), (wave, tasks)) in enumerate(zip(places, batches, strict=True), 1)
        ]

    async def _try_parents(self, branches: Sequence[Branch]) -> None:
        for _, wave in groupby(branches, key=lambda branch: branch.wave):
            await settle(self._try_parent(branch) for branch in wave)
        if not live(branches):
            raise AlgorithmError(f"no prompt of the round can be criticised: {branches[-1].dropped}")

    async def _try_parent(self, branch: Branch) -> None:
        where, step = branch.prefix, f"{branch.step}/train"
        evaluations = await self._evaluate(branch.place[0], step, branch.parent, branch.tasks, "train", where)
        try:
            self._score(where, evaluations)
        except AlgorithmError as error:
            return branch.drop(str(error))
        telling = [evaluation for evaluation in evaluations if evaluation.score is not None]
        traces = await self.lab.traces(telling)
        if not any(map(told, traces)):
            return branch.drop(no_traces(telling, "no call of a language model"))
        branch.rollouts = rollout_blocks(telling, traces)

    async def _adopt(self, branches: Sequence[Branch]) -> list[Candidate]:
        """Make a candidate of each branch that was not dropped, unless one before it says the same."""
        adopted: dict[str, Candidate] = {}
        for branch in live(branches):
            if twin := adopted.get(branch.edit):
                branch.drop(f"the edit is the same as {twin.version}")
                continue
            branch.candidate = await self._add(branch.version, branch.edited, parent=branch.parent)
            adopted[branch.edit] = branch.candidate
            parent = branch.parent.version
            _log.info("%s New prompt template created from parent %s: %s", branch.prefix, parent, branch.version)
        return list(adopted.values())

    async def _add(self, version: str, template: PromptTemplate, parent: Candidate | None = None) -> Candidate:
        resources = await self.lab.add(
            f"add/{version}", {**self.initial, self.name: template}, parent.resources if parent else None
        )
        candidate = Candidate(version, template, resources, at_rollouts=self._enqueued)
        self._candidates.append(candidate)
        return candidate

    async def _select(self, number: int, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The best of the candidates on one batch of validation tasks; of equals, the earlier."""
        tasks = self._rng.sample(range(len(self.val)), min(self.settings.val_batch_size, len(self.val)))
        _log.info("[Round %02d] Evaluating %d candidates on validation dataset", number, len(candidates))
        results = await settle(self._on_val(number, "select", candidate, tasks) for candidate in candidates)
        for candidate, score in zip(candidates, results, strict=True):
            candidate.scores.append(score)
            _log.info("%s Candidate score: %.3f", _prefix(number, candidate), score)
        beam = sorted(candidates, key=lambda candidate: -candidate.scores[-1])[: self.settings.beam_width]
        ranking = [f"{candidate.version}:{candidate.scores[-1]:.3f}" for candidate in beam]
        _log.info("[Round %02d] Top %d candidates on validation dataset: %s", number, len(beam), ranking)
        return beam

    async def _validate(self, number: int, candidate: Candidate) -> float:
        """The score on the whole validation set; the best of all if it is better than every one before."""
        where = _prefix(number, candidate)
        score = await self._on_val(number, "val", candidate, range(len(self.val)))
        candidate.validation_score = score
        previous = self.best[1] if self.best else None
        if previous is None or score > previous:
            self.best = (candidate, score)
            self._curve.append({"rollouts": self._enqueued, "cost": None, "version": candidate.version, "score": score})
            _log.info("%s Best prompt updated. New best score: %.3f (prev: %s)", where, score, _shown(previous))
            await self.on_better()
        else:
            _log.warning("%s Best prompt not updated. Score: %.3f (best: %.3f)", where, score, previous)
        return score

    async def _on_val(self, number: int, why: str, candidate: Candidate, tasks: Sequence[int]) -> float:
        where, step = _prefix(number, candidate), f"r{number:02}/{why}/{candidate.version}"
        evaluations = await self._evaluate(number, step, candidate, tasks, "val", where)
        candidate.on_val |= {task: each.score for task, each in zip(tasks, evaluations, strict=True)}
        return self._score(where, evaluations)

    async def _evaluate(
        self, number: int, step: str, candidate: Candidate, tasks: Sequence[int], split: Split, where: str
    ) -> list[Evaluation]:
        text = candidate.template.template
        _log.info('%s Evaluating prompt "%.50s..." on %d tasks in %s mode', where, text, len(tasks), split)
        evaluations = await self.lab.evaluate(step, candidate.resources, tasks, split)
        self._enqueued += len(tasks)
        self._failures.update(each.failure.kind for each in evaluations if each.failure)
        return evaluations

    def _score(self, where: str, evaluations: Sequence[Evaluation]) -> float:
        score = mean_reward(evaluations)
        statuses = dict(Counter(evaluation.rollout.status for evaluation in evaluations))
        rewards = [evaluation.score for evaluation in evaluations]
        report = "%s Evaluated %d rollouts. Statuses: %s. Rewards: %s, average is %.3f"
        _log.info(report, where, len(evaluations), statuses, rewards, score)
        return score

    def count(self, step: str, split: str) -> None:
        """Note that a rollout is done."""
        self._done += 1
        number = int(step[1:3])
        self.notify(f"round {number}/{self.settings.beam_rounds} {split}", self._done, self._expected)

    def _task(self, place: int) -> dict[str, Any]:
        """What became of a validation task: with the first prompt and with the best."""
        best = self.best[0].on_val if self.best else {}
        return {
            "id": place,
            "input": shortened(json.dumps(self.val[place], ensure_ascii=False, default=str), _WIDTH),
            "before": self._candidates[0].on_val.get(place),
            "after": best.get(place),
        }

    def _record(self, number: int, branches: Sequence[Branch], beam: Sequence[Candidate]) -> None:
        assert self.best is not None
        self._rounds.append(
            {
                "round": number,
                "parents": [branch.parent.version for branch in branches if branch.place[2] == 1],
                "beam": [{"version": candidate.version, "score": candidate.scores[-1]} for candidate in beam],
                "leader_score": beam[0].validation_score,
                "best_version": self.best[0].version,
                "best_score": self.best[1],
            }
        )


def _prefix(number: int, candidate: Candidate) -> str:
    return f"[Round {number:02d} | Prompt {candidate.version}]"


def _shown(score: float | None) -> str:
    return "N/A" if score is None else f"{score:.3f}"
