"""Gives the package `gepa` what it asks for: rollouts, examples, new texts; and notes what it decides.

Knows the package's interface; it is imported when there is a search, so that the package may be missing before.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gepa
from agentlightning import LightningStore, PromptTemplate, TraceAdapter
from agentlightning.algorithm import BudgetSpent, Evaluation
from gepa.core.adapter import EvaluationBatch

from agentlightning_algorithms.gepa.bridge import Bridge
from agentlightning_algorithms.gepa.digest import conversations, example
from agentlightning_algorithms.gepa.model import Model
from agentlightning_algorithms.gepa.record import Record
from agentlightning_algorithms.gepa.reflection import Reflection
from agentlightning_algorithms.gepa.trials import Task, Trials

_log = logging.getLogger("agentlightning.algorithm.gepa")

Texts = Mapping[str, str]

_PERFECT = 1.0
"""`gepa`'s default of `perfect_score`."""


@dataclass
class Search:
    """One search, from the initial templates to the best ones.

    Attributes:
        trials: Where rollouts are spent.
        record: What has been tried.
        model: The model that reflects.
        templates: The initial templates by their names.
        adapter: Turns the spans of a rollout into conversations.
        train: The tasks that are reflected on.
        val: The tasks that candidates are chosen by.
        minibatch_size: Train tasks of one reflection.
        options: What is handed on to `gepa.optimize`.
        on_better: Awaited whenever the best candidate changes.
        stopped_by: What ended the search.
    """

    trials: Trials
    record: Record
    model: Model
    templates: Mapping[str, PromptTemplate]
    adapter: TraceAdapter[Any]
    train: Sequence[Any]
    val: Sequence[Any]
    minibatch_size: int
    options: Mapping[str, Any]
    on_better: Callable[[], Awaitable[None]]
    stopped_by: str | None = None

    async def run(self) -> None:
        """Search until every validation task is done perfectly, or the rollouts do not suffice for another candidate.

        Raises:
            AlgorithmError: When rollouts are lost or give no rewards, or the model does not answer.
        """
        bridge = Bridge()
        try:
            await bridge.run(lambda: self._optimize(bridge))
        except BudgetSpent as spent:
            _log.info("Stopped: %s", spent)
            self.stopped_by = spent.limit
        self.record.end(self.trials.spent)

    def _optimize(self, bridge: Bridge) -> None:
        """Call the package; in the thread."""
        options = dict(self.options)
        reflection = Reflection(
            ask=lambda step, message: bridge.ask(lambda: self.model.ask(self.trials.journal, step, message)),
            record=self.record,
            templates=self.templates,
            messages=options.pop("reflection_prompt_template", None),
            spent=lambda: self.trials.spent,
        )
        gepa.optimize(
            seed_candidate={name: template.template for name, template in self.templates.items()},
            trainset=[Task("train", place, task) for place, task in enumerate(self.train)],
            valset=[Task("val", place, task) for place, task in enumerate(self.val)],
            adapter=_Adapter(self, bridge, reflection),
            reflection_strategy=reflection,
            reflection_minibatch_size=self.minibatch_size,
            max_metric_calls=self.trials.max_rollouts,
            stop_callbacks=[self._is_over, *_listed(options.pop("stop_callbacks", None))],
            callbacks=[_Witness(self, bridge, reflection), *_listed(options.pop("callbacks", None))],
            **({"logger": _Logger()} | options),
        )

    @property
    def perfect_score(self) -> float:
        """The score that leaves nothing to improve."""
        perfect: float = self.options.get("perfect_score", _PERFECT)
        return perfect

    def _is_over(self, state: Any) -> bool:
        """Whether no candidate can be better, or the rollouts left do not suffice for another one."""
        best = self.record.best
        if best is not None and all(score == self.perfect_score for score in best.scores.values()):
            return True
        if self.trials.left >= 2 * self.minibatch_size + len(self.val):
            return False
        self.stopped_by = self.trials.limit
        return True


@dataclass
class _Adapter:
    """What `gepa` calls its adapter: how a candidate is tried, and what is learnt from that."""

    search: Search
    bridge: Bridge
    reflection: Reflection
    propose_new_texts: None = None

    def evaluate(self, batch: Sequence[Task], candidate: Texts, capture_traces: bool = False) -> Any:
        """Try one candidate."""
        return self.batch_evaluate([(candidate, batch)])[0]

    def batch_evaluate(self, items: Sequence[tuple[Texts, Sequence[Task]]]) -> list[Any]:
        """Try candidates at once; their traces are read when they are asked for."""
        step, record = self.reflection.step, self.search.record
        trials = [(record.of(texts, step), tasks) for texts, tasks in items]
        batches = [_batch(ended) for ended in self.bridge.ask(lambda: self.search.trials.run(step, trials))]
        for (candidate, tasks), batch in zip(trials, batches, strict=True):
            if tasks[0].split == "train":
                candidate.gate = sum(batch.scores)
        return batches

    def make_reflective_dataset(
        self, candidate: Texts, eval_batch: Any, components_to_update: Sequence[str]
    ) -> dict[str, list[dict[str, str]]]:
        """The rollouts as examples: the same for each name, as a trace does not tell which prompt did what."""
        examples = self.bridge.ask(lambda: self._examples(eval_batch.trajectories))
        return dict.fromkeys(components_to_update, examples)

    async def _examples(self, evaluations: Sequence[Evaluation]) -> list[dict[str, str]]:
        store, adapter = self.search.trials.journal.ledger.store, self.search.adapter
        return await asyncio.gather(*(_example(store, adapter, evaluation) for evaluation in evaluations))


@dataclass
class _Witness:
    """Notes what `gepa` tells its callbacks."""

    search: Search
    bridge: Bridge
    reflection: Reflection

    def on_iteration_start(self, event: Mapping[str, Any]) -> None:
        """Name what follows."""
        self.reflection.step = f"i{event['iteration']:03d}"

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """Note a candidate's score, and keep it if it is the best."""
        record, spent = self.search.record, self.search.trials.spent
        self._check(max(event["scores_by_val_id"].values()))
        candidate = record.of(event["candidate"], self.reflection.step)
        candidate.parents = candidate.parents or [record.scored[place] for place in event["parent_ids"]]
        if candidate.version != "v0":
            record.decide(self.reflection.step, "accept", version=candidate.version, score=event["average_score"])
        if record.score(candidate, event["average_score"], event["scores_by_val_id"], spent):
            self.bridge.ask(self.search.on_better)

    def on_candidate_rejected(self, event: Mapping[str, Any]) -> None:
        """Note why a candidate was not taken on."""
        before, after = event["old_score"], event["new_score"]
        self.search.record.reject(self.reflection.step, before, after, event["reason"])

    def on_evaluation_skipped(self, event: Mapping[str, Any]) -> None:
        """Note that there was nothing to improve on a minibatch."""
        version = self.search.record.scored[event["candidate_idx"]].version
        self.search.record.decide(self.reflection.step, "skip", version=version, reason=event["reason"])

    def _check(self, highest: float) -> None:
        perfect = self.search.perfect_score
        if highest > perfect and self.search.options.get("skip_perfect_score", True):
            _log.warning(
                "A reward is %g, and gepa takes one of %g or more for perfect, with nothing to learn from: set "
                "GEPA(perfect_score=...) to the highest reward there is",
                highest,
                perfect,
            )


class _Logger:
    """Where `gepa` writes its lines."""

    def log(self, message: str) -> None:
        """Write one."""
        _log.info("%s", message)


def _batch(evaluations: list[Evaluation]) -> Any:
    """The evaluations as `gepa` takes them: what has no reward, where others have one, counts 0."""
    return EvaluationBatch(
        outputs=[evaluation.rollout.rollout_id for evaluation in evaluations],
        scores=[evaluation.score or 0.0 for evaluation in evaluations],
        trajectories=evaluations,
    )


async def _example(store: LightningStore, adapter: TraceAdapter[Any], evaluation: Evaluation) -> dict[str, str]:
    spans = await store.query_spans(evaluation.rollout.rollout_id, "latest")
    return example(evaluation, conversations(adapter, list(spans)))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) else [value]
