"""The `gepa` package in simulated worlds, in an environment of its own: jobs come in, results go out.

Each line of standard input is a JSON object with `contestant`, `world`, `cell`, `budget` and `selection`.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import gepa
from apo.referee import Referee
from apo.worlds import Cell, Outcome, Task, World
from gepa.core.adapter import EvaluationBatch

COMPONENT = "policy"


class _Quiet:
    def log(self, message: str) -> None:
        pass


class _Adapter:
    """Tries a candidate in the world; what beats all before it on the whole validation set would be returned."""

    propose_new_texts = None

    def __init__(self, referee: Referee) -> None:
        self._referee = referee
        self._best = float("-inf")

    def evaluate(
        self, batch: list[Task], candidate: dict[str, str], capture_traces: bool = False
    ) -> EvaluationBatch[tuple[Task, Outcome], str]:
        """Score each task; what went on is kept where it is asked for."""
        prompt = candidate[COMPONENT]
        outcomes = [self._referee.attempt(prompt, task) for task in batch]
        scores = [outcome.score for outcome in outcomes]
        if len(batch) == len(self._referee.world.val) and fmean(scores) > self._best:
            self._best = fmean(scores)
            self._referee.returns(prompt, self._best)
        return EvaluationBatch(
            outputs=[outcome.answer for outcome in outcomes],
            scores=scores,
            trajectories=list(zip(batch, outcomes, strict=True)) if capture_traces else None,
        )

    def make_reflective_dataset(
        self,
        candidate: dict[str, str],
        eval_batch: EvaluationBatch[tuple[Task, Outcome], str],
        components_to_update: list[str],
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """What the reflection model reads."""
        records = [
            {
                "Inputs": task.text,
                "Generated Outputs": outcome.answer or "the agent failed",
                "Feedback": outcome.feedback,
            }
            for task, outcome in eval_batch.trajectories or []
        ]
        return dict.fromkeys(components_to_update, records)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One world."""
    world = World(job["world"], Cell(**job["cell"]))
    referee = Referee(world)

    def reflect(prompt: str | list[dict[str, Any]]) -> str:
        return referee.models.ask("sim-reflect", prompt if isinstance(prompt, str) else prompt[-1]["content"])

    gepa.optimize(
        seed_candidate={COMPONENT: world.seed_prompt},
        trainset=world.train,
        valset=world.val,
        adapter=_Adapter(referee),
        reflection_lm=reflect,
        candidate_selection_strategy=job["selection"],
        max_metric_calls=job["budget"],
        logger=_Quiet(),
        seed=world.number,
    )
    return referee.result(job["contestant"], job["budget"]).as_json()


def main() -> None:
    """Answer each line by one."""
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
