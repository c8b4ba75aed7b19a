"""The contract as text: every call has a grpcurl line that can be copied, and does what it says."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.rollout_pb2 import Rollout
from agentlightning.v1.run_pb2 import Run
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub
from google.protobuf import json_format

PROTO = Path(__file__).parents[3] / "proto/agentlightning/v1/store_service.proto"
METHODS = list(pb.DESCRIPTOR.services_by_name["StoreService"].methods)
LINE = r"//     (grpcurl -plaintext (?:-d '(.*)' )?localhost:4747 agentlightning\.v1\.StoreService/{})\n  rpc {}\("
BOUND = 30.0
DEADLINE_EXCEEDED = 64 + grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
"""What grpcurl ends with: 64 and the code."""


def line_of(method: Any) -> re.Match[str]:
    found = re.search(LINE.format(method.name, method.name), PROTO.read_text())
    assert found, f"{method.name} has no grpcurl line"
    return found


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_call_has_a_grpcurl_line_with_a_request_it_can_read(method: Any) -> None:
    requests = re.sub(r"\} \{", "}\n{", line_of(method)[2] or "{}").splitlines()
    for text in requests:
        fields = json.loads(text)
        fields.pop("update_mask", None)  # grpcurl writes masks as objects, protobuf's own JSON as text
        json_format.ParseDict(fields, getattr(pb, method.input_type.name)())


class Store:
    """A live store with work, resources and a worker, so that no line waits or finds nothing."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self._stub: Any = StoreServiceStub(channel)
        self._address = address
        self._stub.EnqueueRollouts(pb.EnqueueRolloutsRequest(rollouts=[Rollout(input_json="1")] * len(METHODS)))
        self._stub.AddResources(pb.AddResourcesRequest())
        self._stub.UpdateWorker(pb.UpdateWorkerRequest(worker_id="me"))

    def line_for_it(self, method: Any) -> str:
        """The line of a call, about a run and a rollout of its own."""
        run = self._stub.CreateRun(pb.CreateRunRequest(run=Run(algorithm="APO"))).run
        work = self._stub.StartRollout(pb.StartRolloutRequest(rollout=Rollout(input_json="1"))).assignment
        if method.name == "WaitRollouts":
            self._stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=[work.rollout.rollout_id]))
        line = line_of(method)[1].replace("localhost:4747", self._address)
        line = line.replace("run-5f0c2b7a91de", run.run_id).replace("ro-5f0c2b7a91de", work.rollout.rollout_id)
        line = line.replace("at-0123456789abcdef", work.attempt.attempt_id)
        return line.replace("grpcurl", "grpcurl -max-time 1") if method.name == "Watch" else line


@pytest.fixture(scope="module")
def executed(
    built: Callable[[str], Path], store_address: str
) -> Iterator[dict[str, "subprocess.CompletedProcess[str]"]]:
    """What became of the line of each call, by its name."""
    environment = {**os.environ, "PATH": f"{built('.tools/bin/grpcurl').parent}:{os.environ['PATH']}"}

    def run(line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(line, shell=True, env=environment, capture_output=True, text=True, timeout=BOUND)

    with grpc.insecure_channel(store_address) as channel, ThreadPoolExecutor(4) as several:
        store = Store(channel, store_address)
        lines = [store.line_for_it(method) for method in METHODS]
        yield dict(zip((method.name for method in METHODS), several.map(run, lines), strict=True))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_grpcurl_executes_the_line_of_a_call(
    method: Any, executed: dict[str, "subprocess.CompletedProcess[str]"]
) -> None:
    done = executed[method.name]
    assert done.returncode == (DEADLINE_EXCEEDED if method.name == "Watch" else 0), done.stdout + done.stderr
    assert done.stdout, "it says nothing"
