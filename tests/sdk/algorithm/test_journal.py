"""The journal on a real store: what was told once is told again, and the budget is kept."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from agentlightning import (
    Failure,
    LightningStore,
    LightningStoreClient,
    PromptTemplate,
    ResourcesUpdate,
    Span,
    TraceToMessages,
)
from agentlightning.algorithm import (
    Answer,
    Budget,
    BudgetSpent,
    Evaluation,
    Journal,
    Ledger,
    ModelError,
    TooManyFailures,
)
from agentlightning.semconv import ANNOTATION_SPAN, OPERATION_NAME, PRIMARY_REWARD_VALUE, REWARD_PREFIX

TASKS = [f"task {number}" for number in range(12)]
PROMPT = {"prompt": PromptTemplate(template="Go: {task}")}
Open = Callable[..., Awaitable[Journal]]


class Models:
    """A model that says how often it was asked, or raises."""

    def __init__(self, *, raises: bool = False) -> None:
        self.asked = 0
        self.raises = raises

    async def __call__(self, model: str, message: str) -> Answer:
        self.asked += 1
        if self.raises:
            raise RuntimeError("no such key")
        return Answer(f"answer {self.asked}", 100, 10)


@pytest.fixture
async def run_store(store: LightningStoreClient) -> LightningStoreClient:
    run = await store.create_run("test")
    return store.bind(run_id=run.run_id, queue=run.queue)


@pytest.fixture
def open_journal(run_store: LightningStoreClient) -> Open:
    """Opens the journal of the run, as a trainer does that starts, or starts again."""

    async def open(budget: Budget | None = None, models: Models | None = None, **how: Any) -> Journal:
        ledger = Ledger(run_store, budget, planned=how.pop("planned", None), price=how.pop("price", None))
        await ledger.open(**how)
        return Journal(ledger, {"train": TASKS, "val": TASKS}, TraceToMessages(), models)

    return open


@pytest.fixture
async def worker(run_store: LightningStoreClient) -> AsyncIterator[list[str]]:
    """A runner that succeeds; the tasks it was given."""
    done: list[str] = []
    task = asyncio.create_task(_work(run_store, done))
    yield done
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _work(store: LightningStore, done: list[str]) -> None:
    while True:
        for rollout in await store.dequeue_many_rollouts(limit=4, worker_id="tester", wait_seconds=30.0):
            done.append(rollout.input)
            ids = {"rollout_id": rollout.rollout_id, "attempt_id": rollout.attempt.attempt_id}
            failure = Failure(kind="agent", message="bad") if rollout.input == "task 11" else None
            reward = Span.from_attributes(name=ANNOTATION_SPAN, attributes={PRIMARY_REWARD_VALUE: 0.5}, **ids)
            await store.complete_attempt(*ids.values(), failure=failure, spans=[] if failure else [reward])


async def added(journal: Journal) -> ResourcesUpdate:
    return await journal.add("add/v0", dict(PROMPT), None)


async def test_what_was_done_under_a_step_is_not_done_again(open_journal: Open, worker: list[str]) -> None:
    first = await open_journal()
    told = await first.evaluate("r1", await added(first), [0, 1], "val")
    again = await open_journal()
    assert (await again.evaluate("r1", await added(again), [1, 0, 2], "val"))[:2] == told[::-1]
    assert sorted(worker) == TASKS[:3]


async def test_other_resources_are_tried_though_the_step_is_the_same(open_journal: Open, worker: list[str]) -> None:
    first = await open_journal()
    await first.evaluate("r1", await added(first), [0], "val")
    again = await open_journal()
    other = await again.add("add/v0", {"prompt": PromptTemplate(template="Other: {task}")}, None)
    await again.evaluate("r1", other, [0], "val")
    assert worker == TASKS[:1] * 2


async def test_a_candidate_is_kept_once(open_journal: Open) -> None:
    assert await added(await open_journal()) == await added(await open_journal())


async def test_a_rollout_that_was_interrupted_is_done_again_as_the_same_rollout(
    open_journal: Open, run_store: LightningStoreClient
) -> None:
    first = await open_journal()
    under_way = asyncio.create_task(first.evaluate("r1", await added(first), [0], "val"))
    taken = await run_store.dequeue_rollout("dies", wait_seconds=10)
    under_way.cancel()
    await asyncio.gather(under_way, return_exceptions=True)
    again = await open_journal(Budget(rollouts=1))
    done: list[str] = []
    worker = asyncio.create_task(_work(run_store, done))
    [evaluation] = await again.evaluate("r1", await added(again), [0], "val")
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert taken is not None and evaluation.rollout.rollout_id == taken.rollout_id
    assert (evaluation.score, done) == (0.5, TASKS[:1])


async def test_a_rollout_that_was_late_in_its_batch_stays_so(
    open_journal: Open, run_store: LightningStoreClient
) -> None:
    first = await open_journal()
    first.timeout_seconds = 0.01
    [late] = await first.evaluate("r1", await added(first), [0], "val")
    again = await open_journal()
    [told] = await again.evaluate("r1", await added(again), [0], "val")
    assert late.failure is not None and told == late


async def test_a_call_of_a_model_is_made_once_and_kept_with_its_tokens(
    open_journal: Open, run_store: LightningStoreClient
) -> None:
    models = Models()
    assert await (await open_journal(models=models)).ask("r1/critique", "m", "why?") == "answer 1"
    again = await open_journal(models=models)
    assert await again.ask("r1/critique", "m", "why?") == "answer 1"
    assert (models.asked, again.usage["m"].input_tokens) == (1, 100)
    [kept] = await run_store.query_rollouts(labels={"kind": "optimizer"})
    assert (kept.status, kept.labels["step"], kept.queue) == (
        "succeeded",
        "r1/critique",
        f"{run_store.queue}.optimizer",
    )
    assert await again.ask("r1/critique", "m", "another message") == "answer 2"


async def test_that_a_model_gave_no_answer_is_told_again_unless_it_ended_the_run(open_journal: Open) -> None:
    silent, models = Models(raises=True), Models()
    for asked in (silent, models):
        journal = await open_journal(models=asked)
        with pytest.raises(ModelError, match="m did not answer: RuntimeError: no such key"):
            await journal.ask("r1/critique", "m", "why?")
    assert (silent.asked, models.asked) == (1, 0)
    mended = await open_journal(models=models, after=Failure(kind="agent", type="ModelError"))
    assert await mended.ask("r1/critique", "m", "why?") == "answer 1"


async def test_no_rollout_is_enqueued_that_the_budget_does_not_pay(
    open_journal: Open, run_store: LightningStoreClient, worker: list[str]
) -> None:
    journal = await open_journal(Budget(rollouts=5))
    resources = await added(journal)
    await journal.evaluate("r1", resources, [0, 1, 2], "val")
    with pytest.raises(BudgetSpent, match="the budget of 5 rollouts"):
        await journal.evaluate("r2", resources, [0, 1, 2], "val")
    assert (len(await run_store.query_rollouts()), journal.room().rollouts) == (3, 2)


async def test_concurrent_calls_never_exceed_the_budget_by_one(open_journal: Open) -> None:
    models = Models()
    journal = await open_journal(Budget(optimizer_calls=3), models)
    asked = [journal.ask(f"r1/{number}", "m", "why?") for number in range(5)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(each, BudgetSpent) for each in outcomes] == [False] * 3 + [True] * 2
    assert models.asked == 3


async def test_a_larger_budget_goes_on_where_a_smaller_one_ended(open_journal: Open, worker: list[str]) -> None:
    small = await open_journal(Budget(rollouts=3))
    await small.evaluate("r1", await added(small), [0, 1, 2], "val")
    large = await open_journal(Budget(rollouts=4), planned=3)
    resources = await added(large)
    assert (large.room().rollouts, large.room().planned) == (4, 3)
    await large.evaluate("r1", resources, [0, 1, 2], "val")
    assert large.room().rollouts == 1
    await large.evaluate("r2", resources, [0], "val")
    assert len(worker) == 4


@pytest.mark.parametrize(
    ("budget", "reached"),
    [
        (Budget(tokens=100), "the budget of 100 tokens (110 are spent)"),
        (Budget(money=1.0), "the budget of 1 in money (2 are spent)"),
        (Budget(seconds=1e-9), "the budget of 1e-09 seconds"),
    ],
)
async def test_nothing_new_is_begun_once_a_soft_limit_is_reached(
    open_journal: Open, budget: Budget, reached: str
) -> None:
    models = Models()
    earlier = await open_journal(models=models)
    await earlier.ask("r1", "m", "why?")
    journal = await open_journal(budget, models, price=lambda usage: 2.0 if usage else 0.0)
    assert await journal.ask("r1", "m", "why?") == "answer 1"
    with pytest.raises(BudgetSpent) as spent:
        await journal.ask("r2", "m", "why?")
    assert (spent.value.limit, journal.room().reached, models.asked) == (reached, reached, 1)


async def test_money_that_cannot_be_counted_ends_a_run(open_journal: Open) -> None:
    journal = await open_journal(Budget(money=1.0), Models(), price=lambda usage: None if usage else 0.0)
    await journal.ask("r1", "m", "why?")
    with pytest.raises(BudgetSpent, match="as it is not known what m costs"):
        await journal.ask("r2", "m", "why?")


async def test_too_many_failures_stop_a_run_and_are_done_again(open_journal: Open, worker: list[str]) -> None:
    journal = await open_journal(Budget(max_failure_rate=0.05))
    with pytest.raises(TooManyFailures, match=r"1 of 12 rollouts failed \(1 agent\)"):
        await journal.evaluate("r1", await added(journal), range(12), "val")
    again = await open_journal(after=Failure(kind="agent", type="agentlightning.algorithm.ledger.TooManyFailures"))
    await again.evaluate("r1", await added(again), range(12), "val")
    assert worker.count("task 11") == 2 and len(worker) == 13


async def test_the_critic_does_not_see_the_calls_of_a_judge(
    open_journal: Open, run_store: LightningStoreClient
) -> None:
    started = await run_store.start_rollout("task")
    ids = {"rollout_id": started.rollout_id, "attempt_id": started.attempt.attempt_id}
    judging = Span.from_attributes(name="judge", attributes={OPERATION_NAME: REWARD_PREFIX}, sequence_id=1, **ids)

    def call(said: str, sequence_id: int, parent_id: str | None = None) -> Span:
        said_so = {"gen_ai.prompt.0.content": said, "gen_ai.completion.0.content": "yes"}
        return Span.from_attributes(attributes=said_so, sequence_id=sequence_id, parent_id=parent_id, **ids)

    spans = [judging, call("Is it good?", 2, judging.span_id), call("Which room?", 3)]
    await run_store.complete_attempt(*ids.values(), spans=spans)
    [trace] = await (await open_journal()).traces([Evaluation("task", started, 0.5, None)])
    assert [entry["messages"][0]["content"] for entry in trace] == ["Which room?"]


async def test_randomness_depends_on_the_step_and_the_seed_alone(open_journal: Open) -> None:
    one, other = await open_journal(), await open_journal()
    assert one.random("r1").random() == other.random("r1").random() != one.random("r2").random()
