"""What surrounds every call: reflection, health, a line in the log, and bugs that are told apart from refusals."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.store_service_pb2_grpc import StoreServiceServicer, StoreServiceStub
from agentlightning.v1.store_service_pb2_grpc import add_StoreServiceServicer_to_server as add_to_server
from agentlightning_server.rpc.interceptor import CallInterceptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

SERVICES = {
    "agentlightning.v1.StoreService",
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
}
ACCESS = "agentlightning.server.access"


class Broken(StoreServiceServicer):
    """A store with a bug in every kind of call."""

    async def GetServerInfo(self, request: Any, context: Any) -> pb.GetServerInfoResponse:
        raise ZeroDivisionError("secret of the house")

    async def WaitRollouts(self, request: Any, context: Any) -> AsyncIterator[pb.WaitRolloutsResponse]:
        yield pb.WaitRolloutsResponse(revision=1)
        raise ZeroDivisionError("secret of the house")


@pytest.fixture
async def channel(server: Any) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
async def broken() -> AsyncIterator[Any]:
    """A stub to a server with bugs, surrounded as ours is."""
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    add_to_server(Broken(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield StoreServiceStub(channel)
    await server.stop(None)


async def reflect(channel: grpc.aio.Channel, **question: str) -> Any:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**question)]))
    return await call.read()


def error_info(error: grpc.aio.AioRpcError) -> Any:
    [raw] = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(raw).details[0].Unpack(info)
    return info


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == ACCESS]


async def test_reflection_lists_every_service(channel: grpc.aio.Channel) -> None:
    answer = await reflect(channel, list_services="")
    assert {service.name for service in answer.list_services_response.service} == SERVICES


async def test_reflection_knows_every_call_of_the_store(channel: grpc.aio.Channel) -> None:
    answer = await reflect(channel, file_containing_symbol="agentlightning.v1.StoreService")
    files = [FileDescriptorProto.FromString(raw) for raw in answer.file_descriptor_response.file_descriptor_proto]
    [service] = [service for file in files for service in file.service if service.name == "StoreService"]
    expected = pb.DESCRIPTOR.services_by_name["StoreService"].methods
    assert [method.name for method in service.method] == [method.name for method in expected]


async def test_reflection_finds_a_call_by_its_name_as_by_that_of_its_service(channel: grpc.aio.Channel) -> None:
    service, call = [
        await reflect(channel, file_containing_symbol=f"agentlightning.v1.StoreService{name}")
        for name in ("", ".Watch")
    ]
    assert call.file_descriptor_response == service.file_descriptor_response


async def test_reflection_does_not_find_a_call_that_there_is_not(channel: grpc.aio.Channel) -> None:
    answer = await reflect(channel, file_containing_symbol="agentlightning.v1.StoreService.Sing")
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("service", ["", *sorted(SERVICES)])
async def test_every_service_says_that_it_serves(channel: grpc.aio.Channel, service: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_service_that_is_not_here_says_nothing_of_its_health(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.Check(health_pb2.HealthCheckRequest(service="elsewhere"))
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_call_that_was_answered_leaves_a_line(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger=ACCESS)
    await server.enqueue()
    [line] = lines(caplog)
    assert line.startswith('"EnqueueRollouts" OK in ')


async def test_a_stream_leaves_a_line_when_it_ends(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger=ACCESS)
    async for _ in server.stub.WaitRollouts(pb.WaitRolloutsRequest(rollout_ids=["ro-unknown"])):
        pass
    [line] = lines(caplog)
    assert line.startswith('"WaitRollouts" OK in ')


async def test_a_call_that_was_refused_leaves_a_line_that_says_why(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger=ACCESS)
    with pytest.raises(grpc.aio.AioRpcError):
        await server.get("ro-unknown")
    [line] = lines(caplog)
    assert line.startswith('"GetRollout" NOT_FOUND in ')
    assert "ro-unknown" in line


async def test_health_checks_leave_no_lines(channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger=ACCESS)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    await stub.Check(health_pb2.HealthCheckRequest())
    assert lines(caplog) == []


@pytest.mark.parametrize("method", ["GetServerInfo", "WaitRollouts"])
async def test_a_bug_is_answered_internal_with_an_id_that_is_in_the_log(
    broken: Any, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    requests = {"GetServerInfo": pb.GetServerInfoRequest(), "WaitRollouts": pb.WaitRolloutsRequest()}
    call = getattr(broken, method)(requests[method])
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        if method == "GetServerInfo":
            await call
        async for _ in call:
            pass
    info = error_info(failure.value)
    assert (failure.value.code(), info.reason) == (grpc.StatusCode.INTERNAL, "BUG")
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert info.metadata["error_id"] in record.getMessage()
    assert record.exc_info is not None


async def test_a_bug_shows_its_caller_nothing_of_the_inside(broken: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await broken.GetServerInfo(pb.GetServerInfoRequest())
    told = f"{failure.value.details()} {failure.value.trailing_metadata()}"
    for inside in ("secret of the house", "ZeroDivisionError", "Traceback", __file__):
        assert inside not in told


async def test_a_bug_takes_no_other_call_with_it(broken: Any) -> None:
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await broken.GetServerInfo(pb.GetServerInfoRequest())
        assert failure.value.code() is grpc.StatusCode.INTERNAL
