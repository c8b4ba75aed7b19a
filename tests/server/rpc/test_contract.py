"""The contract as text: every call has a grpcurl line that its request can be read from."""

import json
import re
from pathlib import Path

import pytest
from agentlightning.v1 import store_service_pb2 as pb
from google.protobuf import json_format

PROTO = Path(__file__).parents[3] / "proto/agentlightning/v1/store_service.proto"
METHODS = list(pb.DESCRIPTOR.services_by_name["StoreService"].methods)
LINE = r"//     grpcurl -plaintext (?:-d '(.*)' )?localhost:4747 agentlightning\.v1\.StoreService/{}\n  rpc {}\("


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_call_has_a_grpcurl_line_with_a_request_it_can_read(method) -> None:  # type: ignore[no-untyped-def]
    found = re.search(LINE.format(method.name, method.name), PROTO.read_text())
    assert found, f"{method.name} has no grpcurl line"
    requests = re.sub(r"\} \{", "}\n{", found[1] or "{}").splitlines()
    for text in requests:
        fields = json.loads(text)
        fields.pop("update_mask", None)  # grpcurl writes masks as objects, protobuf's own JSON as text
        json_format.ParseDict(fields, getattr(pb, method.input_type.name)())
