"""Messages made up from the descriptor of every call: whatever they say, the store answers, and can be read after."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.resources_pb2 import PromptTemplate, Resource, Resources
from agentlightning.v1.rollout_pb2 import Rollout
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

LONG = os.environ.get("AGL_TEST_LENGTH") == "long"
SETTINGS = settings(
    max_examples=1000 if LONG else 60,
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
METHODS = [
    *pb.DESCRIPTOR.services_by_name["StoreService"].methods,
    *trace_service_pb2.DESCRIPTOR.services_by_name["TraceService"].methods,
]
BUGS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}
DEEPEST = 5
NUMBERS = [0, 1, 2, 100, -1, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1]
RANGES = {
    FieldDescriptor.CPPTYPE_INT32: range(-(2**31), 2**31),
    FieldDescriptor.CPPTYPE_INT64: range(-(2**63), 2**63),
    FieldDescriptor.CPPTYPE_UINT32: range(2**32),
    FieldDescriptor.CPPTYPE_UINT64: range(2**64),
}
TEXTS = ["", "latest", "default", "\x00", "'; --", "é\u2028", "%", "x" * 200, "create_time desc"]
JSON = ["", "null", '{"a": 1}', "[" * 2000, '"\\ud800"', "1e999", "NaN", "{oops"]
PATHS = ["status", "config", "labels", "input_json", "resources_id", "worker_id", "last_heartbeat_time", "", "no_field"]


class Store:
    """A server, and ids of what is in it."""

    def __init__(self, server: Any) -> None:
        self.stub = server.stubs[0]
        self.calls, self.traces = StoreServiceStub(server.channel), TraceServiceStub(server.channel)
        self.answers: Counter[str] = Counter()
        new = pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1") for _ in range(3)])
        rollout_ids = [rollout.rollout_id for rollout in self.stub.EnqueueRollouts(new).rollouts]
        claimed = self.stub.DequeueRollouts(pb.DequeueRolloutsRequest(worker_id="worker", max_rollouts=2)).assignments
        prompt = Resource(name="prompt", prompt_template=PromptTemplate(template="Hi"))
        resources = self.stub.AddResources(pb.AddResourcesRequest(resources=Resources(resources=[prompt]))).resources
        self.known = {
            "rollout_id": rollout_ids,
            "rollout_ids": rollout_ids,
            "attempt_id": [assignment.attempt.attempt_id for assignment in claimed],
            "resources_id": [resources.resources_id],
            "run_id": [self.stub.CreateRun(pb.CreateRunRequest()).run.run_id],
            "worker_id": ["worker"],
            "span_id": [f"{number:016x}" for number in range(3)],
            "trace_id": ["0" * 32],
            "paths": PATHS,
            "page_token": [self.stub.ListRollouts(pb.ListRolloutsRequest(page_size=1)).next_page_token],
            "request_id": ["once", "x" * 129],
        }

    def ask(self, name: str, request: Message) -> None:
        """Make a call; of a stream, look at the beginning."""
        call = getattr(self.traces if name == "Export" else self.calls, name)
        is_stream = not isinstance(call, grpc.UnaryUnaryMultiCallable)
        try:
            if not is_stream:
                call(request, timeout=10)
            else:
                sent = request if isinstance(call, grpc.UnaryStreamMultiCallable) else iter([request, request])
                stream = call(sent, timeout=0.05)
                list(islice(stream, 2))
                stream.cancel()
        except grpc.RpcError as error:
            self.answers[error.code().name] += 1
            assert error.code() not in BUGS, error.details()
            assert error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or is_stream
        else:
            self.answers["OK"] += 1

    def read_everything(self) -> None:
        self.stub.GetStatistics(pb.GetStatisticsRequest())
        self.stub.ListRollouts(pb.ListRolloutsRequest(page_size=1000))
        self.stub.ListResources(pb.ListResourcesRequest())
        self.stub.ListRuns(pb.ListRunsRequest())
        self.stub.ListWorkers(pb.ListWorkersRequest())
        for rollout_id in self.known["rollout_id"]:
            self.stub.ListAttempts(pb.ListAttemptsRequest(rollout_id=rollout_id))
            self.stub.ListSpans(pb.ListSpansRequest(rollout_id=rollout_id))


@pytest.fixture(scope="module")
def store(serve_on_thread: Callable[..., Any]) -> Iterator[Store]:
    with closing(serve_on_thread()) as server:
        store = Store(server)
        yield store
        print(f"\n{store.answers.total()} made-up requests: {dict(store.answers.most_common())}")


def messages(descriptor: Descriptor, known: dict[str, list[str]], depth: int = 0) -> st.SearchStrategy[Message]:
    """Messages of a type, any of their fields set."""
    make = GetMessageClass(descriptor)
    nested = [field for field in descriptor.fields if depth < DEEPEST or field.message_type is None]
    fields = {field.name: values(field, make(), known, depth) for field in nested}
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: make(**given))


def values(field: FieldDescriptor, empty: Message, known: dict[str, list[str]], depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.dictionaries(st.sampled_from(TEXTS), st.sampled_from(TEXTS), max_size=2)
    one = value(field, known, depth)
    is_repeated = hasattr(getattr(empty, field.name), "append")
    return st.lists(one, max_size=3) if is_repeated else one


def value(field: FieldDescriptor, known: dict[str, list[str]], depth: int) -> st.SearchStrategy[Any]:
    if field.name == "wait_timeout":
        return st.sampled_from(
            [Duration(), Duration(nanos=1), Duration(seconds=-1), Duration(seconds=1, nanos=-(2**31))]
        )
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_MESSAGE:
            return messages(field.message_type, known, depth + 1)
        case FieldDescriptor.CPPTYPE_ENUM:
            return st.sampled_from([*field.enum_type.values_by_number, 99, -1])
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return st.sampled_from([0.0, -1.5, math.nan, math.inf, -math.inf])
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return st.sampled_from([b"", b"\x00" * 8, b"\xff" * 16, b"\xff"])
        case FieldDescriptor.CPPTYPE_STRING:
            usual = JSON if field.name.endswith("_json") else known.get(field.name, TEXTS)
            return st.sampled_from(usual) | st.sampled_from(TEXTS)
        case kind:
            return st.sampled_from([number for number in NUMBERS if number in RANGES[kind]])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_no_message_finds_a_bug_or_spoils_what_is_read_after(store: Store, method: Any) -> None:
    @SETTINGS
    @given(messages(method.input_type, store.known))
    def ask(request: Message) -> None:
        store.ask(method.name, request)

    ask()
    store.read_everything()
