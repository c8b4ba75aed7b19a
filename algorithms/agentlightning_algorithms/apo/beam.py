"""The beam search over prompts: which prompt is tried on which tasks, and what is kept. Knows no model's API."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, groupby, islice, product
from random import Random
from typing import Any, TypeVar

from agentlightning import (
    AlgorithmError,
    LightningStore,
    NamedResources,
    PromptTemplate,
    RolloutMode,
    TraceAdapter,
)
from agentlightning.algorithm import Evaluation, evaluate, mean_reward

from agentlightning_algorithms.apo.candidate import Branch, Candidate, draw_waves, live
from agentlightning_algorithms.apo.optimizer import Optimizer
from agentlightning_algorithms.apo.prompts import rollout_block
from agentlightning_algorithms.apo.settings import Settings

T = TypeVar("T")

_log = logging.getLogger("agentlightning.algorithm.apo")


@dataclass
class BeamSearch:
    """One search, from the seed to the best prompt.

    Whatever can run at once does, but nothing depends on what ends first: all random draws of a step are made before
    it starts, results are taken in the order of the tasks and of the branches, and no prompt is ever tried on a task
    while the same try is still under way.

    Attributes:
        settings: What was chosen.
        optimizer: The critic and the editor.
        store: Where rollouts are done.
        adapter: Turns the spans of a rollout into conversations.
        initial: The resources to start from; all but one are carried along as they are.
        name: The one that is tuned.
        original: Its initial value.
        train: The tasks that prompts are criticised on.
        val: The tasks that prompts are chosen by.
        notify: Told of the phase, the rollouts done and those expected.
        on_better: Awaited whenever `best` changes.
        best: The best prompt so far and its mean reward on all of `val`.
    """

    settings: Settings
    optimizer: Optimizer
    store: LightningStore
    adapter: TraceAdapter[Any]
    initial: NamedResources
    name: str
    original: PromptTemplate
    train: Sequence[Any]
    val: Sequence[Any]
    notify: Callable[[str, int, int], None]
    on_better: Callable[[], Awaitable[None]]
    best: tuple[Candidate, float] | None = None

    def __post_init__(self) -> None:
        self._rng = Random(self.settings.seed)
        self._expected = self.settings.estimate(len(self.train), len(self.val)).rollouts
        self._enqueued = self._done = 0
        self._baseline: float | None = None
        self._candidates: list[Candidate] = []
        self._branches: list[Branch] = []
        self._rounds: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Search to the end.

        Raises:
            AlgorithmError: When rollouts give no rewards or no traces, or the models do not answer.
        """
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
        seed = [candidate.describe() | {"parent": None, "dropped": None} for candidate in self._candidates[:1]]
        return {
            "baseline_score": self._baseline,
            "best_score": score,
            "best_version": best.version if best else None,
            "rollouts": self._enqueued,
            "optimizer_calls": self.optimizer.calls,
            "optimizer_tokens": {model: dict(counts) for model, counts in self.optimizer.tokens.items()},
            "dropped_branches": sum(branch.dropped is not None for branch in self._branches),
            "settings": asdict(self.settings),
            "candidates": seed + [branch.describe() for branch in self._branches],
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
        waves = draw_waves(rng, self.train, batch_size=settings.gradient_batch_size, count=settings.branches)
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
            await _all_of(self._try_parent(branch) for branch in wave)
        if not live(branches):
            raise AlgorithmError(f"no prompt of the round can be criticised: {branches[-1].dropped}")

    async def _try_parent(self, branch: Branch) -> None:
        try:
            evaluations, _ = await self._evaluate(branch.place[0], branch.parent, branch.tasks, "train", branch.prefix)
        except AlgorithmError as error:
            return branch.drop(str(error))
        telling = [evaluation for evaluation in evaluations if evaluation.score is not None]
        conversations = await _all_of(self._conversation(evaluation) for evaluation in telling)
        if not any(conversations):
            return branch.drop(_no_traces(telling))
        pairs = enumerate(zip(telling, conversations, strict=True), 1)
        branch.rollouts = "\n".join(rollout_block(number, *pair) for number, pair in pairs)

    async def _conversation(self, evaluation: Evaluation) -> list[Any]:
        """The messages of the last call of a language model, which hold those of the calls before it."""
        spans = await self.store.query_spans(evaluation.rollout.rollout_id, "latest")
        calls = self.adapter.adapt(list(spans))
        return list(calls[-1]["messages"]) if calls else []

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
        resources = await self.store.add_resources(
            {**self.initial, self.name: template}, parent=parent.resources if parent else None
        )
        candidate = Candidate(version, template, resources)
        self._candidates.append(candidate)
        return candidate

    async def _select(self, number: int, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The best of the candidates on one batch of validation tasks; of equals, the earlier."""
        tasks = self._rng.sample(self.val, min(self.settings.val_batch_size, len(self.val)))
        _log.info("[Round %02d] Evaluating %d candidates on validation dataset", number, len(candidates))
        results = await _all_of(
            self._evaluate(number, candidate, tasks, "val", _prefix(number, candidate)) for candidate in candidates
        )
        for candidate, (_, score) in zip(candidates, results, strict=True):
            candidate.scores.append(score)
            _log.info("%s Candidate score: %.3f", _prefix(number, candidate), score)
        beam = sorted(candidates, key=lambda candidate: -candidate.scores[-1])[: self.settings.beam_width]
        ranking = [f"{candidate.version}:{candidate.scores[-1]:.3f}" for candidate in beam]
        _log.info("[Round %02d] Top %d candidates on validation dataset: %s", number, len(beam), ranking)
        return beam

    async def _validate(self, number: int, candidate: Candidate) -> float:
        """The score on the whole validation set; the best of all if it is better than every one before."""
        where = _prefix(number, candidate)
        _, score = await self._evaluate(number, candidate, self.val, "val", where)
        candidate.validation_score = score
        previous = self.best[1] if self.best else None
        if previous is None or score > previous:
            self.best = (candidate, score)
            _log.info("%s Best prompt updated. New best score: %.3f (prev: %s)", where, score, _shown(previous))
            await self.on_better()
        else:
            _log.warning("%s Best prompt not updated. Score: %.3f (best: %.3f)", where, score, previous)
        return score

    async def _evaluate(
        self, number: int, candidate: Candidate, tasks: Sequence[Any], mode: RolloutMode, where: str
    ) -> tuple[list[Evaluation], float]:
        text = candidate.template.template
        _log.info('%s Evaluating prompt "%.50s..." on %d tasks in %s mode', where, text, len(tasks), mode)
        self._enqueued += len(tasks)
        evaluations = await evaluate(
            self.store,
            candidate.resources,
            tasks,
            mode=mode,
            on_done=lambda _: self._count(number, mode),
            timeout_seconds=self.settings.rollout_batch_timeout,
            labels={"round": str(number), "prompt": candidate.version},
        )
        score = mean_reward(evaluations)
        statuses = dict(Counter(evaluation.rollout.status for evaluation in evaluations))
        rewards = [evaluation.score for evaluation in evaluations]
        report = "%s Evaluated %d rollouts. Statuses: %s. Rewards: %s, average is %.3f"
        _log.info(report, where, len(tasks), statuses, rewards, score)
        return evaluations, score

    def _count(self, number: int, mode: RolloutMode) -> None:
        self._done += 1
        self.notify(f"round {number}/{self.settings.beam_rounds} {mode}", self._done, self._expected)

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


async def _all_of(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do everything at once; the first failure cancels the rest and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _prefix(number: int, candidate: Candidate) -> str:
    return f"[Round {number:02d} | Prompt {candidate.version}]"


def _shown(score: float | None) -> str:
    return "N/A" if score is None else f"{score:.3f}"


def _no_traces(evaluations: Sequence[Evaluation]) -> str:
    failures = [str(evaluation.failure) for evaluation in evaluations if evaluation.failure]
    cause = f" The first rollout that failed ended with {failures[0]}." if failures else ""
    return (
        f"the tracer recorded no call of a language model in {len(evaluations)} rollouts, so there is nothing to "
        f"criticise.{cause} Let the agent call its model through a library that the tracer instruments (openai is), "
        "in the process of the runner, or record the calls as spans with the gen_ai attributes"
    )
