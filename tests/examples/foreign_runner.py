"""A runner as somebody writes it who has the protocol and OpenTelemetry and nothing of ours: stubs, and no SDK.

Its agent books rooms. Each call of a model is recorded as one of several instrumentations of other languages does it:
the task says which by its `form`, else its turn does. Spans go by OTLP, as they end: children before their parents.
"""

import concurrent.futures
import itertools
import json
import os
import re
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from agentlightning.v1 import attempt_pb2, rollout_pb2, store_service_pb2_grpc
from agentlightning.v1 import store_service_pb2 as pb
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

JSON = dict[str, Any]
LOOK: JSON = {
    "type": "function",
    "function": {
        "name": "get_rooms_and_availability",
        "description": "Lists every meeting room.",
        "parameters": {"type": "object", "properties": {"date": {"type": "string"}}},
    },
}
draining = threading.Event()


class Sent(SpanProcessor):
    """Keeps the spans of an attempt, to send them before it is completed."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: draining.set())
    at_once, most = int(os.environ.get("AGL_CONCURRENCY", "1")), int(os.environ.get("AGL_MAX_ROLLOUTS", "1000000"))
    address = os.environ["AGL_STORE"]
    exporter = OTLPSpanExporter(endpoint=f"http://{address}", insecure=True)
    with grpc.insecure_channel(address) as channel, concurrent.futures.ThreadPoolExecutor(at_once) as workers:
        stub = store_service_pb2_grpc.StoreServiceStub(channel)
        working: set[concurrent.futures.Future[None]] = set()
        turns = itertools.count()
        while most > 0 and not draining.is_set():
            request = pb.DequeueRolloutsRequest(worker_id="foreign", queue=os.environ.get("AGL_QUEUE", ""))
            request.max_rollouts = min(at_once - len(working), most)
            request.wait_timeout.FromMilliseconds(200)
            for assignment in stub.DequeueRollouts(request, wait_for_ready=True).assignments:
                most -= 1
                working.add(workers.submit(work, stub, exporter, assignment, next(turns)))
            if len(working) == at_once:
                concurrent.futures.wait(working, return_when=concurrent.futures.FIRST_COMPLETED)
            for done in {each for each in working if each.done()}:
                working.remove(done)
                done.result()
    exporter.shutdown()


def work(stub: Any, exporter: OTLPSpanExporter, assignment: rollout_pb2.Assignment, turn: int) -> None:
    rollout, attempt_id = assignment.rollout, assignment.attempt.attempt_id
    identity = {"agentlightning.rollout_id": rollout.rollout_id, "agentlightning.attempt_id": attempt_id}
    provider, sent = TracerProvider(resource=Resource(identity)), Sent()
    provider.add_span_processor(sent)
    task = json.loads(rollout.input_json)
    outcome: JSON = {"succeeded": {}}
    try:
        form = FORMS[task.get("form") or list(FORMS)[turn % len(FORMS)]]
        book(provider.get_tracer("com.example.rooms", "1.2"), form, task, prompt_of(stub, rollout))
    except Exception as error:
        failure = attempt_pb2.Failure(
            kind=attempt_pb2.FAILURE_KIND_AGENT, type=type(error).__name__, message=str(error)
        )
        outcome = {"failure": failure}
    exporter.export(sent.spans)
    stub.CompleteAttempt(
        pb.CompleteAttemptRequest(rollout_id=rollout.rollout_id, attempt_id=attempt_id, **outcome), wait_for_ready=True
    )


def prompt_of(stub: Any, rollout: rollout_pb2.Rollout) -> str:
    request = pb.GetResourcesRequest(resources_id=rollout.resources_id, version=rollout.resources_version)
    resources = stub.GetResources(request).resources.resources
    return next(each.prompt_template.template for each in resources if each.HasField("prompt_template"))


def book(tracer: trace.Tracer, form: "Form", task: JSON, template: str) -> None:
    with tracer.start_as_current_span("agent"):
        messages = [{"role": "user", "content": template.format(**task["task_input"])}]
        said = ask(tracer, form, messages, [LOOK])
        if calls := said.get("tool_calls"):
            messages.append(said)
            for call in calls:
                with tracer.start_as_current_span("execute_tool") as span:
                    span.set_attribute("gen_ai.operation.name", "execute_tool")
                    span.set_attribute("gen_ai.tool.name", call["function"]["name"])
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(task["rooms"])})
            said = ask(tracer, form, messages, [])
        with tracer.start_as_current_span("grade") as span:
            span.set_attribute("agentlightning.reward.0.value", grade(said.get("content"), task))


def grade(answer: str | None, task: JSON) -> float:
    text, expected = (answer or "").strip(), task["expected_choice"]
    if text == expected:
        return 1.0
    named = {name for name in ["No Room", *(room["id"] for room in task["rooms"]["rooms"])] if re.search(name, text)}
    return 0.5 if named == {expected} else 0.0


def ask(tracer: trace.Tracer, form: "Form", messages: list[JSON], tools: list[JSON]) -> JSON:
    body = {"model": "gpt-4.1-nano", "temperature": 0, "messages": messages} | ({"tools": tools} if tools else {})
    with form(tracer) as record:
        request = urllib.request.Request(
            f"{os.environ['OPENAI_BASE_URL']}/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"},
        )
        with urllib.request.urlopen(request) as answer:
            completion = json.load(answer)
        record(messages, completion, tools)
    said: JSON = completion["choices"][0]["message"]
    return said


Record = Callable[[list[JSON], JSON, list[JSON]], None]
Form = Callable[[trace.Tracer], Any]


@contextmanager
def conventions(tracer: trace.Tracer) -> Iterator[Record]:
    """OpenTelemetry's GenAI conventions: messages of parts, as JSON."""

    def parts_of(message: JSON) -> JSON:
        if message["role"] == "tool":
            answer = {"type": "tool_call_response", "id": message["tool_call_id"], "response": message["content"]}
            return {"role": "tool", "parts": [answer]}
        parts = [{"type": "text", "content": message["content"]}] if message.get("content") else []
        for call in message.get("tool_calls") or ():
            arguments = json.loads(call["function"]["arguments"])
            parts.append(
                {"type": "tool_call", "id": call["id"], "name": call["function"]["name"], "arguments": arguments}
            )
        return {"role": message["role"], "parts": parts}

    with tracer.start_as_current_span("chat gpt-4.1-nano", kind=trace.SpanKind.CLIENT) as span:

        def record(messages: list[JSON], completion: JSON, tools: list[JSON]) -> None:
            span.set_attributes(common(completion) | tokens(completion, "input", "output"))
            span.set_attribute("gen_ai.input.messages", json.dumps([parts_of(message) for message in messages]))
            span.set_attribute("gen_ai.output.messages", json.dumps([parts_of(completion["choices"][0]["message"])]))
            if tools:
                definitions = [{"type": "function", **tool["function"]} for tool in tools]
                span.set_attribute("gen_ai.tool.definitions", json.dumps(definitions))

        yield record


@contextmanager
def events(tracer: trace.Tracer) -> Iterator[Record]:
    """The conventions before: an event for each message."""
    with tracer.start_as_current_span("chat gpt-4.1-nano", kind=trace.SpanKind.CLIENT) as span:

        def record(messages: list[JSON], completion: JSON, tools: list[JSON]) -> None:
            span.set_attributes(common(completion) | tokens(completion, "input", "output"))
            for message in messages:
                body = {key: value for key, value in message.items() if key != "role" and value is not None}
                body = {{"tool_call_id": "id"}.get(key, key): value for key, value in body.items()}
                texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in body.items()}
                span.add_event(f"gen_ai.{message['role']}.message", texts)
            choice = completion["choices"][0]
            span.add_event("gen_ai.choice", {"index": 0, "message": json.dumps(choice["message"])})

        yield record


@contextmanager
def numbered(tracer: trace.Tracer) -> Iterator[Record]:
    """OpenLLMetry: a numbered attribute for each part of a message."""

    def flat(prefix: str, message: JSON) -> JSON:
        told = {f"{prefix}.{name}": message[name] for name in ("role", "content", "tool_call_id") if message.get(name)}
        for number, call in enumerate(message.get("tool_calls") or ()):
            told |= {f"{prefix}.tool_calls.{number}.{name}": value for name, value in call["function"].items()}
            told[f"{prefix}.tool_calls.{number}.id"] = call["id"]
        return told

    with tracer.start_as_current_span("openai.chat", kind=trace.SpanKind.CLIENT) as span:

        def record(messages: list[JSON], completion: JSON, tools: list[JSON]) -> None:
            span.set_attributes({"llm.request.type": "chat", "gen_ai.system": "openai"})
            span.set_attributes(common(completion, operation=False) | tokens(completion, "prompt", "completion"))
            for number, message in enumerate(messages):
                span.set_attributes(flat(f"gen_ai.prompt.{number}", message))
            span.set_attributes(flat("gen_ai.completion.0", completion["choices"][0]["message"]))
            for number, tool in enumerate(tools):
                function = tool["function"] | {"parameters": json.dumps(tool["function"]["parameters"])}
                span.set_attributes({f"llm.request.functions.{number}.{name}": told for name, told in function.items()})

        yield record


@contextmanager
def openinference(tracer: trace.Tracer) -> Iterator[Record]:
    """OpenInference: numbered attributes of its own names."""

    def flat(prefix: str, message: JSON) -> JSON:
        names = ("role", "content", "tool_call_id")
        told = {f"{prefix}.message.{name}": message[name] for name in names if message.get(name)}
        for number, call in enumerate(message.get("tool_calls") or ()):
            at = f"{prefix}.message.tool_calls.{number}.tool_call"
            told |= {f"{at}.function.{name}": value for name, value in call["function"].items()}
            told[f"{at}.id"] = call["id"]
        return told

    with tracer.start_as_current_span("OpenAI Chat Completions") as span:
        span.set_attribute("openinference.span.kind", "LLM")

        def record(messages: list[JSON], completion: JSON, tools: list[JSON]) -> None:
            used = completion["usage"]
            span.set_attributes({"llm.system": "openai", "llm.model_name": completion["model"]})
            span.set_attributes(
                {f"llm.token_count.{name}": used[f"{name}_tokens"] for name in ("prompt", "completion")}
            )
            for number, message in enumerate(messages):
                span.set_attributes(flat(f"llm.input_messages.{number}", message))
            span.set_attributes(flat("llm.output_messages.0", completion["choices"][0]["message"]))
            for number, tool in enumerate(tools):
                span.set_attribute(f"llm.tools.{number}.tool.json_schema", json.dumps(tool))

        yield record


@contextmanager
def ai_sdk(tracer: trace.Tracer) -> Iterator[Record]:
    """The AI SDK of TypeScript: a span for what was asked of it, in it one for the call of the model."""

    def call_of(call: JSON) -> JSON:
        arguments = json.loads(call["function"]["arguments"])
        return {"toolCallId": call["id"], "toolName": call["function"]["name"], "input": arguments}

    def parts_of(message: JSON) -> JSON:
        if message["role"] == "tool":
            output = {"type": "json", "value": json.loads(message["content"])}
            result = {"type": "tool-result", "toolCallId": message["tool_call_id"], "output": output}
            return {"role": "tool", "content": [result]}
        parts = [{"type": "text", "text": message["content"]}] if message.get("content") else []
        parts += [{"type": "tool-call", **call_of(call)} for call in message.get("tool_calls") or ()]
        return {"role": message["role"], "content": parts}

    with (
        tracer.start_as_current_span("ai.generateText") as around,
        tracer.start_as_current_span("ai.generateText.doGenerate") as span,
    ):

        def record(messages: list[JSON], completion: JSON, tools: list[JSON]) -> None:
            said = completion["choices"][0]["message"]
            around.set_attributes({"ai.operationId": "ai.generateText", "ai.model.id": completion["model"]})
            around.set_attribute("ai.prompt", json.dumps({"messages": messages}))
            span.set_attribute("ai.operationId", "ai.generateText.doGenerate")
            span.set_attributes(common(completion, operation=False) | tokens(completion, "input", "output"))
            span.set_attribute("ai.prompt.messages", json.dumps([parts_of(message) for message in messages]))
            if tools:
                definitions = [{"type": "function", **tool["function"]} for tool in tools]
                for definition in definitions:
                    definition["inputSchema"] = definition.pop("parameters")
                span.set_attribute("ai.prompt.tools", [json.dumps(definition) for definition in definitions])
            if said.get("content"):
                span.set_attribute("ai.response.text", said["content"])
            if said.get("tool_calls"):
                span.set_attribute("ai.response.toolCalls", json.dumps([call_of(call) for call in said["tool_calls"]]))

        yield record


def common(completion: JSON, *, operation: bool = True) -> JSON:
    told = {"gen_ai.request.model": "gpt-4.1-nano", "gen_ai.response.model": completion["model"]}
    told |= {"gen_ai.response.id": completion["id"]}
    told |= {"gen_ai.response.finish_reasons": [choice["finish_reason"] for choice in completion["choices"]]}
    return told | ({"gen_ai.operation.name": "chat"} if operation else {})


def tokens(completion: JSON, sent: str, received: str) -> JSON:
    used = completion["usage"]
    counts = {sent: used["prompt_tokens"], received: used["completion_tokens"]}
    return {f"gen_ai.usage.{name}_tokens": count for name, count in counts.items()}


FORMS: dict[str, Form] = {
    "conventions": conventions,
    "events": events,
    "numbered": numbered,
    "openinference": openinference,
    "ai_sdk": ai_sdk,
}

if __name__ == "__main__":
    main()
