"""Commands at work on a real store: each test writes its agent in shell."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.runner.runner import LitAgentRunner


@dataclass(frozen=True)
class Done:
    """What became of a rollout."""

    rollout: agl.Rollout
    attempt: agl.Attempt
    spans: list[agl.Span]

    @property
    def process(self) -> dict[str, Any]:
        """The attributes of the span of the process."""
        [span] = [span for span in self.spans if "process.command_args" in span.attributes]
        return span.attributes

    @property
    def stdout(self) -> str:
        return str(self.process.get("agentlightning.process.stdout", ""))

    @property
    def failure(self) -> tuple[str, str, str]:
        assert self.attempt.failure is not None
        return self.attempt.failure.kind, self.attempt.failure.type, self.attempt.failure.message


Work = Callable[..., Awaitable[Done]]


@pytest.fixture
def work(store: agl.LightningStoreClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Runs a script of shell for one rollout."""
    monkeypatch.chdir(tmp_path)

    async def run(script: str, task: object = None, config: agl.RolloutConfig | None = None, **resources: Any) -> Done:
        named = (await store.add_resources(resources)).resources_id if resources else None
        queued = await store.enqueue_rollout(task, resources_id=named, config=config, mode="val")
        runner: LitAgentRunner[Any] = LitAgentRunner(max_rollouts=1)
        with runner.run_context(agent=agl.CommandAgent(["sh", "-c", script]), store=store):
            await runner.iter()
        rollout = await store.get_rollout_by_id(queued.rollout_id)
        attempt = await store.get_latest_attempt(queued.rollout_id)
        assert rollout and attempt
        return Done(rollout, attempt, list(await store.query_spans(queued.rollout_id)))

    return run
