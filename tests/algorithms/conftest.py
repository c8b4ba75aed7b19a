import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import Any

import pytest
from agentlightning import AttemptedRollout, Failure, LightningStore, Span
from agentlightning.semconv import ANNOTATION_SPAN, PRIMARY_REWARD_VALUE

Agent = Callable[[str, Any], float | Failure | None]
"""What a task comes to with a prompt."""


def _spans(rollout: AttemptedRollout, prompt: str, outcome: float | Failure | None, traced: bool) -> Iterator[Span]:
    ids = {"rollout_id": rollout.rollout_id, "attempt_id": rollout.attempt.attempt_id}
    sequence = count(rollout.next_sequence_id)
    said = f"came to {outcome}" if outcome else f"missed {rollout.input}"
    if traced:
        conversation = {
            "gen_ai.request.model": "any",
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": prompt,
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": said,
        }
        yield Span.from_attributes(
            name="openai.chat.completion", attributes=conversation, sequence_id=next(sequence), **ids
        )
    if isinstance(outcome, float):
        reward = {PRIMARY_REWARD_VALUE: outcome}
        yield Span.from_attributes(name=ANNOTATION_SPAN, attributes=reward, sequence_id=next(sequence), **ids)


async def _work(store: LightningStore, agent: Agent, traced: bool) -> None:
    prompts: dict[str | None, str] = {}
    while True:
        taken = await store.dequeue_many_rollouts(limit=7, worker_id="tester", wait_seconds=30.0)
        for rollout in random.sample(taken, len(taken)):
            if rollout.resources_id is not None and rollout.resources_id not in prompts:
                resources = await store.get_resources_by_id(rollout.resources_id, rollout.resources_version)
                assert resources is not None
                prompts[rollout.resources_id] = resources.resources["prompt"].template
            prompt = prompts.get(rollout.resources_id, "")
            outcome = agent(prompt, rollout.input)
            await store.complete_attempt(
                rollout.rollout_id,
                rollout.attempt.attempt_id,
                failure=outcome if isinstance(outcome, Failure) else None,
                spans=list(_spans(rollout, prompt, outcome, traced)),
            )


@pytest.fixture
async def store(store: LightningStore) -> LightningStore:
    """The store for a run of its own, as the Trainer gives it to an algorithm."""
    run = await store.create_run("test")
    return store.bind(run_id=run.run_id, queue=run.queue)


@pytest.fixture
def working(store: LightningStore) -> Callable[..., AbstractAsyncContextManager[None]]:
    """Runs an agent on whatever is enqueued; rollouts end in an order that nobody can foresee."""

    @asynccontextmanager
    async def work(agent: Agent, *, traced: bool = True) -> AsyncIterator[None]:
        worker = asyncio.create_task(_work(store, agent, traced))
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    return work
