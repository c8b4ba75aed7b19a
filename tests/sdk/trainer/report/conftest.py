"""Runs as the store keeps them, made up: one that went well, one that failed, one that was stopped, one unscored."""

import random
from typing import Any

import agentlightning as agl
import pytest

SEED = "Book a room for {n} people. Answer with its name."
BEST = "Book the smallest room that holds {n} people. Answer with its id, <nothing> else."
CRITIQUE = "The agent books rooms that are too large & answers with `names` where ids are wanted."
MIDDLE = "Book the smallest room for {n} people. Answer with its name."


def candidate(
    version: str, parent: str | None, at_rollouts: int, score: float | None, **changed: Any
) -> dict[str, Any]:
    made = {
        "version": version,
        "parent": parent,
        "step": f"r0{at_rollouts // 40}/{version}",
        "component": "prompt_template",
        "template": MIDDLE,
        "resources_id": f"rs-{version}",
        "critique": "" if parent is None else CRITIQUE,
        "edit_faults": [],
        "dropped": None,
        "score": score,
        "tasks_scored": None if score is None else 24,
        "at_rollouts": at_rollouts,
    }
    return made | changed


def tasks() -> list[dict[str, Any]]:
    chance = random.Random(1)
    befores = [float(chance.random() < 0.4) for _ in range(24)]
    afters = [float(chance.random() < 0.85) for _ in range(24)]
    scores = zip(befores, afters, strict=True)
    return [
        {"id": place, "input": f'{{"n": {place + 1}}}', "before": before, "after": after}
        for place, (before, after) in enumerate(scores)
    ]


SUMMARY: dict[str, Any] = {
    "selection": "race",
    "settings": {"minibatch_size": 4, "seed": 0},
    "baseline_score": 0.42,
    "best_score": 0.83,
    "best_version": "v4",
    "rollouts": 148,
    "test_rollouts": 120,
    "optimizer_calls": 10,
    "tokens": {"small": [182_000, 9_500], "large": {"calls": 10, "input_tokens": 31_000, "output_tokens": 5_200}},
    "cost": 0.1234,
    "seconds": 61.4,
    "stopped_by": None,
    "failed": 4,
    "retried": 1,
    "failures": {"agent": 3, "timeout": 1, "infrastructure": 0, "invalid": 2},
    "validation": {"baseline": 0.42, "best": 0.83},
    "test": {"baseline": 0.4, "best": 0.8},
    "holdout": {"tasks": 60, "baseline": 0.4, "best": 0.8, "difference": 0.4, "interval": [0.25, 0.55]},
    "candidates": [
        candidate("v0", None, 0, 0.42, template=SEED),
        candidate("v1", "v0", 28, 0.58),
        candidate("v2", "v0", 28, 0.33, template="Book any room for {n}.", dropped="behind v1 by 0.25 on 8 tasks"),
        candidate(
            "v3", "v1", 72, None, template="Book.", edit_faults=["the placeholder 'n' is lost"], dropped="invalid"
        ),
        candidate("v4", "v1", 72, 0.83, template=BEST),
    ],
    "curve": [
        {"rollouts": 24, "cost": 0.02, "version": "v0", "score": 0.42},
        {"rollouts": 64, "cost": 0.05, "version": "v1", "score": 0.58},
        {"rollouts": 120, "cost": 0.1, "version": "v4", "score": 0.83},
        {"rollouts": 148, "cost": 0.1234, "version": "v4", "score": 0.83},
    ],
    "decisions": [
        {"step": "r01/race", "kind": "accept", "version": "v1", "incumbent": "v0", "mean": 0.16, "pairs": 24},
        {"step": "r02/race", "kind": "accept", "version": "v4", "incumbent": "v1", "mean": 0.25, "pairs": 24},
        {"step": "r03", "kind": "widen", "width": 3},
    ],
    "tasks": tasks(),
    "initial_prompt": SEED,
    "best_prompt": BEST,
    "prompt_path": ".agentlightning/run-0123456789ab/prompt_template.txt",
    "report_paths": [".agentlightning/run-0123456789ab/report.md", ".agentlightning/run-0123456789ab/report.html"],
}


def run(status: Any = "succeeded", summary: Any = None, **changed: Any) -> agl.Run:
    started = {"argv": ["train.py"]}
    told = {"config": {"started": started}, "summary": summary, "status": status, **changed}
    return agl.Run(run_id="run-0123456789ab", algorithm="APO", create_time=0.0, **told)


def without(*names: str, **changed: Any) -> dict[str, Any]:
    return {name: value for name, value in SUMMARY.items() if name not in names} | changed


SPENT = {"budget": {"rollouts": [148, 148], "optimizer_calls": [10, 40], "seconds": [61.4, 60.0]}}

RUNS = {
    "made": run(summary=SUMMARY),
    "failed": run("failed", failure=agl.Failure(kind="infrastructure", type="ConnectionError", message="refused")),
    "stopped": run(
        summary=without("test", "holdout", "test_rollouts", stopped_by="the budget of 148 rollouts", cost=None, **SPENT)
    ),
    "unscored": run(summary={"rollouts": 12, "seconds": 3.0, "statuses": {"succeeded": 12}}),
}


@pytest.fixture(params=RUNS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of one of the runs."""
    return str(request.param)


@pytest.fixture
def told(name: str) -> agl.Run:
    """One of the runs."""
    return RUNS[name]


@pytest.fixture
def runs() -> dict[str, agl.Run]:
    """All the runs by name."""
    return RUNS


@pytest.fixture
def summary() -> dict[str, Any]:
    """All that a run that went well has noted."""
    return SUMMARY
