import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from agentlightning import GEPA, LLM, LightningStore, PromptTemplate, Run, TraceToMessages
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from openai import AsyncOpenAI

RULES = ("north", "south", "east", "west")
TASKS = [f"{RULES[index % len(RULES)]} {index}" for index in range(20)]
TRAIN, VAL = TASKS[:12], TASKS[12:]
SEED = PromptTemplate(template="Go: {task}.")
MODEL = LLM(endpoint="http://localhost", model="any")

Answer = Callable[[ChatRequest], ChatReply]
Optimize = Callable[..., Awaitable[GEPA]]


def follows_rules(prompt: str, task: str) -> float:
    """The agent: a task is done right if the prompt mentions its rule."""
    return 1.0 if task.split()[0] in prompt else 0.0


def text_of(request: ChatRequest) -> str:
    """The instruction that a reflecting model is asked to improve."""
    return re.findall(r"```\n(.*?)\n```", request.messages[0]["content"], re.DOTALL)[0]


def add_a_rule(request: ChatRequest) -> ChatReply:
    """The reflecting model: it adds the first rule that the examples say was missed."""
    missed = re.findall(r"missed (\w+)", request.messages[0]["content"])
    return ChatReply(f"Let me see.\n```\n{text_of(request)} Mind {missed[0] if missed else 'nothing'}.\n```")


def add_all_rules(request: ChatRequest) -> ChatReply:
    """A better one."""
    return ChatReply(f"```\n{text_of(request)} Mind {', '.join(RULES)}.\n```")


@pytest.fixture
def served() -> Iterator[Callable[[Answer], OpenAIServer]]:
    """Serves a reflecting model until the test ends."""
    servers: list[OpenAIServer] = []

    def serve(answer: Answer) -> OpenAIServer:
        servers.append(OpenAIServer(answer))
        servers[-1].start()
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture
def optimize(store: LightningStore, working: Callable[..., Any], served: Callable[[Answer], OpenAIServer]) -> Optimize:
    """Runs GEPA on 12 train and 8 validation tasks."""

    async def run(
        agent: Callable[..., Any] = follows_rules,
        answer: Answer = add_a_rule,
        *,
        run: Run | None = None,
        made: list[GEPA] | None = None,
        resources: dict[str, Any] | None = None,
        val: list[str] = VAL,
        on_progress: Callable[[str, int, int], None] | None = None,
        **settings: Any,
    ) -> GEPA:
        async with AsyncOpenAI(api_key="none", base_url=served(answer).base_url, max_retries=0) as client:
            algorithm = GEPA(client, **{"max_rollouts": 120, **settings})
            if made is not None:
                made.append(algorithm)
            algorithm.set_store(store)
            algorithm.set_adapter(TraceToMessages())
            algorithm.set_initial_resources(resources or {"model": MODEL, "prompt": SEED})
            algorithm.progress = on_progress
            if run is not None:
                algorithm.set_run(run)
            async with working(agent):
                await algorithm.run(TRAIN, val)
        return algorithm

    return run
