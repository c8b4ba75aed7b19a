"""What the tests of the store's client share."""

from collections.abc import AsyncIterator, Callable

import agentlightning as agl
import pytest

MakeSpan = Callable[..., agl.Span]


@pytest.fixture
def make_span() -> MakeSpan:
    """A span of an attempted rollout, told from others by its number."""

    def make(of: agl.AttemptedRollout, number: int = 1, **fields: object) -> agl.Span:
        known = {"name": f"span-{number}", "sequence_id": number, "attributes": {}}
        ids = {"trace_id": f"{number:032x}", "span_id": f"{number:016x}"}
        return agl.Span(
            **{**known, **ids, **fields},  # type: ignore[arg-type]
            rollout_id=of.rollout_id,
            attempt_id=of.attempt.attempt_id,
        )

    return make


@pytest.fixture
async def run_store(store: agl.LightningStoreClient) -> AsyncIterator[agl.LightningStoreClient]:
    """A client bound to a run of its own: what it lists is the test's alone."""
    run = await store.create_run("test")
    bound = store.bind(run_id=run.run_id)
    yield bound
    await bound.close()
