"""What has happened in the store of docs/grpcurl.md: a run with two prompts, and a rollout in every status."""

import json
from typing import Any

import grpc
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf import json_format

QUEUE = "rooms"
PROMPT = "Choose a room for {attendees}."
BETTER_PROMPT = "Choose the smallest room that seats {attendees}."
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
BUSY = {"kind": "FAILURE_KIND_AGENT", "type": "openai.RateLimitError", "message": "try again in 20s"}
NO_ROOM = {
    "kind": "FAILURE_KIND_AGENT",
    "type": "ValueError",
    "message": "no room for 40",
    "stack_trace": """Traceback (most recent call last):
  File "agent.py", line 12, in select
ValueError: no room for 40
""",
}
RETRIED_ONCE = {"max_attempts": 2, "retry_condition": ["ATTEMPT_STATUS_FAILED"]}
RETRIED_LATER = {
    "max_attempts": 3,
    "retry_policies": [{"kind": "FAILURE_KIND_AGENT", "initial_backoff": "300s"}],
}


class Story:
    """Tells a store what happens, in the JSON that grpcurl takes, too."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub: Any = StoreServiceStub(channel)
        run = {"algorithm": "APO", "queue": QUEUE, "summary_json": '{"score": 0.75}'}
        self._run_id = self.call("CreateRun", run=run).run.run_id

    def call(self, method: str, **fields: Any) -> Any:
        request = json_format.ParseDict(fields, getattr(pb, f"{method}Request")())
        return getattr(self._stub, method)(request)

    def write_prompts(self) -> None:
        """Two versions of one, the second of which is the best so far."""
        resources_id = self._write("AddResources", PROMPT).resources_id
        best = self._write("UpdateResources", BETTER_PROMPT, resources_id=resources_id)
        run = {"run_id": self._run_id, "best_resources_id": resources_id, "best_resources_version": best.version}
        self.call("UpdateRun", run=run, update_mask="bestResourcesId,bestResourcesVersion")

    def _write(self, method: str, template: str, **fields: Any) -> Any:
        prompt = {"name": "prompt_template", "prompt_template": {"template": template}}
        return self.call(method, resources={"run_id": self._run_id, "resources": [prompt], **fields}).resources

    def enqueue(self, attendees: int, **fields: Any) -> str:
        """Queues a task and says the rollout's id."""
        rollout = {"run_id": self._run_id, "queue": QUEUE, "input_json": json.dumps({"attendees": attendees})}
        enqueued: str = self.call("EnqueueRollouts", rollouts=[rollout | fields]).rollouts[0].rollout_id
        return enqueued

    def claim(self, worker_id: str) -> dict[str, str]:
        """Claims for a worker and names what it was given."""
        [work] = self.call("DequeueRollouts", worker_id=worker_id, queue=QUEUE, lease_duration="3600s").assignments
        return {"rollout_id": work.rollout.rollout_id, "attempt_id": work.attempt.attempt_id}

    def complete(self, work: dict[str, str], **outcome: Any) -> None:
        self.call("CompleteAttempt", **work, **outcome)


def tell(channel: grpc.Channel) -> None:
    """Make the story happen: rollouts are named by their attendees."""
    story = Story(channel)
    story.write_prompts()
    story.enqueue(12)
    story.complete(story.claim("Worker-0"), succeeded={})
    story.enqueue(4, labels={"site": "north"})
    work = story.claim("Worker-0")
    story.complete(work, succeeded={}, spans=[span | work for span in spans()])
    story.enqueue(40, config=RETRIED_ONCE)
    story.complete(story.claim("Worker-0"), failure=BUSY)
    story.complete(story.claim("Worker-1"), failure=NO_ROOM)
    story.call("CancelRollouts", rollout_ids=[story.enqueue(7)])
    story.enqueue(5, config=RETRIED_LATER)
    story.complete(story.claim("Worker-1"), failure=BUSY)
    story.enqueue(6)
    story.call("HeartbeatAttempts", attempts=[story.claim("Worker-0")])
    story.enqueue(3)
    story.claim("Worker-1")
    story.enqueue(9)
    story.enqueue(10, priority=1)


def spans() -> list[dict[str, Any]]:
    """Those of an agent that calls a model, then a tool, and is rewarded."""
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4.1-nano",
        "gen_ai.input.messages": said("user", BETTER_PROMPT.format(attendees=4)),
        "gen_ai.output.messages": said("assistant", "A103"),
        "gen_ai.usage.input_tokens": 31,
        "gen_ai.usage.output_tokens": 4,
    }
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_rooms"}
    reward = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": 1.0}
    named = {"chat gpt-4.1-nano": chat, "execute_tool get_rooms": tool, "agentlightning.annotation": reward}
    return [span(number, name, attributes) for number, (name, attributes) in enumerate(named.items(), 1)]


def said(role: str, text: str) -> str:
    """One message as OpenTelemetry's conventions write it."""
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def span(number: int, name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """The span of that number, a second after the one before."""
    return {
        "trace_id": TRACE_ID,
        "span_id": f"00f067aa0ba902b{number}",
        "sequence_id": number,
        "name": name,
        "start_time": f"2026-01-05T09:00:0{number}Z",
        "end_time": f"2026-01-05T09:00:0{number}.500Z",
        "attributes": [{"key": key, "value": value_of(value)} for key, value in attributes.items()],
    }


def value_of(value: str | int | float) -> dict[str, Any]:
    """An attribute's value as the contract writes it."""
    return {{str: "string_value", int: "int_value", float: "double_value"}[type(value)]: value}
