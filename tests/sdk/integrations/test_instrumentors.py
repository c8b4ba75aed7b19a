"""Other people's instrumentors as they are, beside the tracer."""

from collections.abc import Iterator
from pathlib import Path

import agentlightning as agl
import pytest
from agentlightning.store.embedded import EmbeddedStore
from agentlightning.tracer.provider import processor

from .conftest import Run, needs


@pytest.mark.parametrize("folder", ["langgraph_agent"], indirect=True)
async def test_a_call_that_three_see_is_one_span_in_its_place(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    needs("opentelemetry.instrumentation.langchain", "opentelemetry.instrumentation.openai")
    spans = await run(agl.Tracer(instrumentors=["langchain", "openai"]))
    kept = {span.span_id: span for span in spans}
    calls = [span for span in spans if span.name == "openai.chat.completion"]
    assert len(agl.TraceToMessages().adapt(spans)) == len(calls) == 2
    assert {kept[call.parent_id or ""].name for call in calls} == {"execute_task ask"}
    assert all(span.parent_id in kept for span in spans[1:])
    assert "is left out" not in caplog.text


@pytest.fixture
def untouched_store(tmp_path: Path) -> Iterator[str]:
    """The address of a store that this process has not talked to."""
    with EmbeddedStore(tmp_path) as store:
        yield store.address


async def test_our_own_calls_are_not_traced_where_grpc_is(untouched_store: str) -> None:
    needs("opentelemetry.instrumentation.grpc")
    runner: agl.LitAgentRunner[str] = agl.LitAgentRunner(
        tracer=agl.Tracer(instrumentors=["grpc_aio_client"]), max_rollouts=1
    )
    store = agl.LightningStoreClient(untouched_store)
    with runner.run_context(agent=lambda task: 1.0, store=store):
        processor.take_unattributed()
        queued = await store.enqueue_rollout("task")
        await runner.iter()
        spans = await store.query_spans(queued.rollout_id)
        assert processor.take_unattributed() == 0
    await store.close()
    assert [span.name for span in spans] == ["agentlightning.rollout", "agentlightning.annotation"]
