"""A run is resumed by `fit` or by `agl runs resume`, and ends with its budget in a state to go on from."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.algorithm import BudgetSpent, Estimate, Journal, TooManyFailures
from agentlightning.cli import main
from agentlightning.trainer.fit.resumption import check_unchanged, worked_on

TASKS = ["a", "bcd", "ef"]
Fit = Callable[..., agl.TrainResult]


class Search(agl.Algorithm):
    """Tries one prompt after the other on all tasks."""

    is_durable = True

    def __init__(self, prompts: int = 3, breaks_at: int | None = None) -> None:
        self.prompts = prompts
        self.breaks_at = breaks_at
        self.best: agl.ResourcesUpdate | None = None
        self.stopped_by: str | None = None

    def settings(self) -> dict[str, Any]:
        return {"prompts": self.prompts}

    def cheapest(self, train_size: int, val_size: int) -> Estimate:
        return Estimate(rollouts=train_size)

    def get_best_resources(self) -> agl.NamedResources | None:
        return self.best.resources if self.best else None

    def summary(self) -> dict[str, Any]:
        return {"stopped_by": self.stopped_by}

    async def run(
        self, train_dataset: agl.Dataset[Any] | None = None, val_dataset: agl.Dataset[Any] | None = None
    ) -> None:
        assert train_dataset is not None
        journal = Journal(await self.open_ledger(), {"train": train_dataset})
        try:
            for number in range(self.prompts):
                if number == self.breaks_at:
                    raise RuntimeError("the machine is on fire")
                prompt = agl.PromptTemplate(template=f"{number} {{task}}")
                resources = await journal.add(f"add/{number}", {"prompt": prompt}, None)
                await journal.evaluate(f"try/{number}", resources, range(len(train_dataset)), "train")
                self.best = resources
        except BudgetSpent as spent:
            self.stopped_by = spent.limit


@pytest.fixture
def done() -> list[str]:
    """What the agent was asked to do."""
    return []


@pytest.fixture
def failing() -> set[str]:
    """Tasks that the agent fails at."""
    return set()


@pytest.fixture
def fit(store_address: str, tmp_path: Path, done: list[str], failing: set[str]) -> Iterator[Fit]:
    """Trains in threads."""

    def agent(task: str, prompt: agl.PromptTemplate) -> float:
        done.append(prompt.format(task=task))
        if task in failing:
            raise RuntimeError("the endpoint is gone")
        return float(len(task))

    def run(algorithm: agl.Algorithm, tasks: list[str] = TASKS, *, budget: agl.Budget | None = None, **how: Any) -> Any:
        trainer = agl.Trainer(
            algorithm=algorithm,
            store=store_address,
            folder=tmp_path,
            strategy="threads",
            budget=budget,
            initial_resources={"prompt": "first {task}", "llm": agl.LLM(endpoint="none", model="m", api_key="secret")},
        )
        return trainer.dev(agent, tasks) if how.pop("is_trial", False) else trainer.fit(agent, tasks, **how)

    yield run


def broken(fit: Fit, store: agl.LightningStoreClient, **how: Any) -> str:
    """The id of a run that broke off."""
    with pytest.raises(RuntimeError, match="on fire"):
        fit(Search(breaks_at=2), **how)
    return asyncio.run(_newest(store))


async def _newest(store: agl.LightningStoreClient) -> str:
    return (await store.query_runs(limit=1))[0].run_id


def test_a_run_that_broke_off_goes_on_where_it_was(fit: Fit, store: agl.LightningStoreClient, done: list[str]) -> None:
    run_id = broken(fit, store)
    assert len(done) == 1 + 2 * len(TASKS)
    result = fit(Search(), resume=run_id)
    assert (result.run_id, result.rollouts, len(done)) == (run_id, 3 * len(TASKS), 1 + 3 * len(TASKS))
    assert result.best_resources == {"prompt": agl.PromptTemplate(template="2 {task}")}


def test_a_run_that_has_succeeded_says_so_and_changes_nothing(
    fit: Fit, done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    result = fit(Search(1))
    spent = len(done)
    again = fit(Search(1), resume=result.run_id)
    assert (again.run_id, again.best_resources, len(done)) == (result.run_id, result.best_resources, spent)
    assert f"run {result.run_id} has succeeded already: nothing is done" in capsys.readouterr().out


def test_a_budget_ends_a_run_well_and_a_larger_one_resumes_it(
    fit: Fit, done: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    result = fit(Search(), budget=agl.Budget(rollouts=8))
    assert (len(done), result.summary["stopped_by"]) == (7, "the budget of 8 rollouts")
    assert result.best_resources == {"prompt": agl.PromptTemplate(template="1 {task}")}
    told = capsys.readouterr().out
    assert "the cheapest possible run: 4 rollouts, 0 optimizer calls" in told
    assert "budget: 7 of 8 rollouts" in told
    assert f"with a larger budget it goes on: agl runs resume {result.run_id}" in told
    again = fit(Search(), budget=agl.Budget(rollouts=10), resume=result.run_id)
    assert (len(done), again.summary["stopped_by"]) == (10, None)


def test_the_check_and_the_test_split_are_paid_from_the_budget(fit: Fit, done: list[str]) -> None:
    result = fit(Search(), budget=agl.Budget(rollouts=10), test_dataset=["t"])
    assert len(done) == 1 + 2 * len(TASKS) + 2
    assert (result.test_rollouts, result.summary["budget"]["rollouts"]) == (2, [9, 10])


def test_too_many_failures_stop_a_run_that_is_resumed_when_they_are_mended(
    fit: Fit, store: agl.LightningStoreClient, done: list[str], failing: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [str(number) for number in range(10)]
    failing |= set(tasks[1:])
    with pytest.raises(TooManyFailures, match=r"9 of 11 rollouts failed \(9 agent\)"):
        fit(Search(2), tasks)
    run_id = asyncio.run(_newest(store))
    assert f"it can go on: agl runs resume {run_id}" in capsys.readouterr().out
    failing.clear()
    result = fit(Search(2), tasks, resume=run_id)
    assert (result.statuses["failed"], result.retried, len(done)) == (0, 9, 1 + 10 + 9 + 10)


def test_a_budget_for_no_run_at_all_is_refused(fit: Fit, done: list[str]) -> None:
    with pytest.raises(agl.TrainerError, match=r"budget\.rollouts is 3, but the cheapest possible run needs 4"):
        fit(Search(), budget=agl.Budget(rollouts=3))
    assert not done


def test_what_has_changed_is_named_with_both_values(fit: Fit, store: agl.LightningStoreClient, done: list[str]) -> None:
    run_id = broken(fit, store)
    with pytest.raises(agl.TrainerError) as refused:
        fit(Search(4), [*TASKS, "new"], resume=run_id)
    assert "settings.prompts was 3 and is 4; train_dataset was '3 tasks (" in str(refused.value)
    assert "and is '4 tasks (" in str(refused.value)
    fit(Search(4), [*TASKS, "new"], resume=run_id, resume_changed=True)
    assert len(done) == 1 + 4 * 4


def test_a_run_that_is_worked_on_is_not_resumed(fit: Fit, store: agl.LightningStoreClient, tmp_path: Path) -> None:
    run_id = broken(fit, store)
    with worked_on(run_id, tmp_path / run_id), pytest.raises(agl.TrainerError, match="is being worked on by the proc"):
        fit(Search(), resume=run_id)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"resume": "run-0123456789ab"}, "resume is 'run-0123456789ab', but Baseline keeps no journal"),
        ({"budget": agl.Budget(rollouts=9)}, "but Baseline keeps no journal"),
    ],
)
def test_an_algorithm_without_a_journal_has_no_budget_and_is_not_resumed(
    fit: Fit, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(agl.TrainerError, match=message):
        fit(agl.Baseline(), **how)


def test_a_run_that_is_not_there_is_not_resumed(fit: Fit) -> None:
    with pytest.raises(agl.TrainerError, match="resume is 'run-ffffffffffff': there is no run"):
        fit(Search(), resume="run-ffffffffffff")


def test_a_run_of_a_notebook_is_resumed_there(
    store: agl.LightningStoreClient, store_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = asyncio.run(store.create_run("APO", config={"started": {"command": None}}))
    assert main(["runs", "resume", run.run_id, "--store", store_address]) == 1
    assert f"go on there with trainer.fit(..., resume='{run.run_id}')" in capsys.readouterr().err


async def test_how_a_run_was_made_is_kept_without_keys(fit: Fit, store: agl.LightningStoreClient) -> None:
    run_id = fit(Search(1)).run_id
    kept = await store.get_run(run_id)
    assert kept is not None and kept.config["made_of"]["initial_resources"]["llm"]["model"] == "m"
    assert kept.config["started"]["folder"] == str(Path.cwd())
    assert "secret" not in str(kept.config)


def test_to_try_an_agent_needs_no_budget(fit: Fit, done: list[str]) -> None:
    assert fit(Search(1), budget=agl.Budget(rollouts=2), is_trial=True).rollouts == len(TASKS)


def test_the_same_is_no_change() -> None:
    made_of = {"settings": {"seed": 0}, "agent": "book"}
    run = agl.Run(run_id="run-1", create_time=0, config={"made_of": made_of})
    check_unchanged(run, made_of)
    with pytest.raises(agl.TrainerError, match=r"settings\.seed was 0 and is not there"):
        check_unchanged(run, {**made_of, "settings": {}})
