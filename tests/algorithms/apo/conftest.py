import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agentlightning import LLM, LightningStore, PromptTemplate, Run, TraceToMessages
from agentlightning.algorithm import Budget, Ledger
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from agentlightning_algorithms.apo import APO
from openai import AsyncOpenAI

RULES = ("north", "south", "east", "west")
TASKS = [f"{RULES[index % len(RULES)]} {index}" for index in range(57)]
SEED = PromptTemplate(template="Go: {task}.")
MODEL = LLM(endpoint="http://localhost", model="any")
TUTORIAL = {"gradient_batch_size": 4, "val_batch_size": 10, "beam_width": 2, "branch_factor": 2, "beam_rounds": 2}

Optimize = Callable[..., Awaitable[APO[str]]]


def follows_rules(prompt: str, task: str) -> float:
    """The agent: a task is done right if the prompt mentions its rule."""
    return 1.0 if task.split()[0] in prompt else 0.0


def criticise_and_edit(request: ChatRequest) -> ChatReply:
    """The critic names one rule of those that were missed; the editor adds what the critic names."""
    text = request.messages[0]["content"]
    if "<critique>" not in text:
        missed = sorted(set(re.findall(r"missed (\w+)", text))) or ["nothing"]
        return ChatReply(f"Mention {missed[int(request.digest, 16) % len(missed)]}.")
    template, critique = (
        re.findall(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)[-1] for tag in ("prompt_template", "critique")
    )
    return ChatReply(f"{template} {critique} ({request.digest[:8]} {request.occurrence})")


@pytest.fixture
def answer() -> Callable[[ChatRequest], ChatReply]:
    """The models unless a test says otherwise: what is missed is named, and added."""
    return criticise_and_edit


@pytest.fixture
def optimize(store: LightningStore, working: Callable[..., Any]) -> Optimize:
    """Runs APO with the tutorial's settings on 28 train and 29 validation tasks."""

    async def run(
        agent: Callable[..., Any] = follows_rules,
        answer: Callable[[ChatRequest], ChatReply] = criticise_and_edit,
        *,
        run: Run | None = None,
        is_new: bool = False,
        budget: Budget | None = None,
        prompt: PromptTemplate = SEED,
        traced: bool = True,
        train: list[str] = TASKS[:28],
        val: list[str] = TASKS[28:],
        on_progress: Callable[[str, int, int], None] | None = None,
        **settings: Any,
    ) -> APO[str]:
        with OpenAIServer(answer) as server:
            async with AsyncOpenAI(api_key="none", base_url=server.base_url, max_retries=0) as client:
                algorithm = APO[str](client, **TUTORIAL | settings)
                mine = store.bind(run_id=(await store.create_run("APO")).run_id) if is_new else store
                algorithm.set_store(mine)
                if budget is not None:
                    await (ledger := Ledger(mine, budget)).open()
                    algorithm.set_ledger(ledger)
                algorithm.set_adapter(TraceToMessages())
                algorithm.set_initial_resources({"model": MODEL, "prompt": prompt, "second": SEED})
                algorithm.progress = on_progress
                if run is not None:
                    algorithm.set_run(run)
                async with working(agent, traced=traced):
                    await algorithm.run(train, val)
        return algorithm

    return run
