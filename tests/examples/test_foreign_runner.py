"""What somebody else's runner records, in every form that instrumentations of other languages know, is read as ours."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.adapter import Usage, usage_by_model
from agentlightning.cli import main
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from foreign_runner import FORMS, LOOK

ROOMS = {"rooms": [{"id": "Alder", "free": True}, {"id": "Birch", "free": False}]}
TASK = {"task_input": {"attendees": 4}, "expected_choice": "Alder", "rooms": ROOMS}
ARGUMENTS = {"date": "2026-03-02"}
of_each_form = pytest.mark.parametrize("form", FORMS)


def reply(request: ChatRequest) -> ChatReply:
    if request.messages[-1]["role"] == "tool":
        return ChatReply("I suggest Alder.")
    return ChatReply(tool_calls=[("get_rooms_and_availability", ARGUMENTS)])


@pytest.fixture(scope="module")
def rollouts(store_address: str) -> dict[str, agl.Rollout]:
    """A rollout of each form, done by the runner."""

    async def enqueue() -> list[agl.Rollout]:
        store = agl.LightningStoreClient(store_address)
        await store.add_resources({"prompt_template": agl.PromptTemplate(template="A room for {attendees}")})
        queued = [await store.enqueue_rollout(TASK | {"form": form}, "train") for form in FORMS]
        await store.close()
        return queued

    queued = asyncio.run(enqueue())
    with OpenAIServer(reply) as model:
        environment = os.environ | {
            "AGL_STORE": store_address,
            "AGL_CONCURRENCY": str(len(FORMS)),
            "AGL_MAX_ROLLOUTS": str(len(FORMS)),
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": "any",
        }
        program = Path(__file__).with_name("foreign_runner.py")
        subprocess.run([sys.executable, program], env=environment, check=True, timeout=30)
    return dict(zip(FORMS, queued, strict=True))


Spans = Callable[[str], list[agl.Span]]


@pytest.fixture
def spans(rollouts: dict[str, agl.Rollout], store: agl.LightningStoreClient) -> Spans:
    """The spans of the rollout of a form."""
    return lambda form: list(asyncio.run(store.query_spans(rollouts[form].rollout_id, "latest")))


@pytest.fixture
def told(
    rollouts: dict[str, agl.Rollout], store_address: str, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """What a command tells of the rollout of a form."""

    def tell(command: str, form: str, *options: str) -> Any:
        main([command, rollouts[form].rollout_id, "--store", store_address, *options])
        return capsys.readouterr().out

    return tell


@of_each_form
def test_the_last_conversation_holds_the_whole_of_it(spans: Spans, form: str) -> None:
    first, last = agl.TraceToMessages().adapt(spans(form))
    call = {"name": "get_rooms_and_availability", "arguments": json.dumps(ARGUMENTS)}
    told = [(message["role"], message.get("content") or None) for message in last["messages"]]
    assert told == [
        ("user", "A room for 4"),
        ("assistant", None),
        ("tool", json.dumps(ROOMS)),
        ("assistant", "I suggest Alder."),
    ]
    [asked] = last["messages"][1]["tool_calls"]
    assert asked["function"] == call
    assert first["messages"][-1]["tool_calls"] == [asked]
    assert last["messages"][2]["tool_call_id"] == asked["id"]


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"events"}))  # which have no place for them
def test_the_tools_on_offer_are_those_that_were_sent(spans: Spans, form: str) -> None:
    assert [call["tools"] for call in agl.TraceToMessages().adapt(spans(form))] == [[LOOK], None]


@of_each_form
def test_each_call_is_a_step_of_reinforcement_learning_and_the_last_has_the_reward(spans: Spans, form: str) -> None:
    triplets = agl.TracerTraceToTriplet().adapt(spans(form))
    assert [triplet.reward for triplet in triplets] == [None, 0.5]
    assert triplets[1].response["raw_content"][0]["content"] == "I suggest Alder."


@of_each_form
def test_each_call_says_which_tokens_it_used(spans: Spans, form: str) -> None:
    [(model, usage)] = usage_by_model(spans(form)).items()
    assert (model, usage.calls, usage.unmeasured_calls) == ("gpt-4.1-nano", 2, 0)
    assert usage.input_tokens > usage.output_tokens > 0


def test_every_form_comes_to_the_same_usage(spans: Spans) -> None:
    used: list[dict[str, Usage]] = [usage_by_model(spans(form)) for form in FORMS]
    assert all(usage == used[0] for usage in used)


@of_each_form
def test_a_trace_shows_what_was_asked_and_answered(told: Callable[..., str], form: str) -> None:
    shown = told("trace", form)
    for text in ("gpt-4.1-nano", "A room for 4", "get_rooms_and_availability", "I suggest Alder.", "0.5"):
        assert text in shown


@of_each_form
def test_what_becomes_training_data_is_explained(told: Callable[..., str], form: str) -> None:
    assert "2 of 2 calls used by TracerTraceToTriplet" in told("explain", form)
