"""The conformance agent in Python: does what its task says, and writes down how far it got. See README.md."""

import asyncio
from pathlib import Path
from typing import Any

import agentlightning as agl
from opentelemetry import trace


async def agent(task: dict[str, Any], resources: agl.NamedResources) -> float | None:
    log = Path(task["log"])
    note(log, "began")
    if isinstance(prompt := resources.get("prompt"), agl.PromptTemplate):
        note(log, f"prompt {prompt.template}")
    for number in range(task.get("steps", 0)):
        trace.get_tracer(__name__).start_span(f"step-{number}").end()
    try:
        while "wait_for" in task and not Path(task["wait_for"]).exists():  # noqa: ASYNC110 - it is another process that makes it
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        note(log, "stopped")
        raise
    if "fail" in task:
        note(log, "failed")
        raise RuntimeError(task["fail"])
    note(log, "ended")
    reward: float | None = task.get("reward")
    return reward


def note(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(f"{line}\n")
