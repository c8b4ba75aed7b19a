"""`agl doctor` against real stores, and against what is none."""

import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from types import SimpleNamespace
from typing import Any

import pytest
from agentlightning import Failure, LightningStoreClient, RolloutConfig, Span
from agentlightning.cli.checks import Finding, reach
from agentlightning.cli.checks.folder import folder
from agentlightning.cli.checks.packages import packages
from agentlightning.cli.checks.recording import recording
from agentlightning.store.embedded import EmbeddedStore
from agentlightning.testing import FakeClock, TemporaryStore
from google.protobuf.descriptor_pb2 import FileDescriptorProto

Command = Callable[..., Awaitable[Any]]
Findings = dict[str, list[Finding]]

ASKED = {"gen_ai.request.model": "small", "gen_ai.prompt.0.content": "?", "gen_ai.completion.0.content": "A103"}
REWARDED = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": 1.0}


async def findings(anywhere: Command, *arguments: str, code: int) -> Findings:
    """What it found, by what was looked at; it exits with this code."""
    told = await anywhere("doctor", "--json", *arguments)
    assert (told.status, told.err) == (code, "")
    found: Findings = {}
    for finding in json.loads(told.out)["findings"]:
        found.setdefault(finding["check"], []).append(Finding(**finding))
    return found


async def succeed(store: LightningStoreClient, *spans: dict[str, Any]) -> str:
    """A rollout that has succeeded with spans of these attributes."""
    rollout = await store.start_rollout("task")
    ids = {"rollout_id": rollout.rollout_id, "attempt_id": rollout.attempt.attempt_id}
    made = [
        Span.from_attributes(attributes=attributes, sequence_id=number, **ids)
        for number, attributes in enumerate(spans, 1)
    ]
    await store.complete_attempt(rollout.rollout_id, rollout.attempt.attempt_id, spans=made)
    return rollout.rollout_id


@pytest.fixture
def own_store() -> Iterator[LightningStoreClient]:
    """A store that is the test's alone."""
    with TemporaryStore() as store:
        yield LightningStoreClient(store.address)


@pytest.fixture
def no_store() -> Iterator[str]:
    """Where something listens that hangs up at once."""
    with TCPServer(("127.0.0.1", 0), BaseRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_where_all_is_well_each_line_says_so_and_the_last_counts(
    anywhere: Command, own_store: LightningStoreClient
) -> None:
    await succeed(own_store, ASKED, REWARDED)
    told = await anywhere("doctor", "--store", own_store.server_address)
    assert (told.status, told.err) == (0, "")
    *lines, last = told.out.splitlines()
    assert {line.split()[0] for line in lines if "disk" not in line} == {"ok"}
    assert last == "0 problems, 0 warnings"
    looked_at = [line.split(":")[0].removeprefix("ok      ") for line in lines]
    for check in ("tracing", "name", "port", "health", "version", "contract", "round trip", "clock", "rewards"):
        assert check in looked_at


async def test_a_queue_that_nobody_takes_from_is_a_problem_with_the_command_that_mends_it(
    anywhere: Command, clocked_store: LightningStoreClient, clock: FakeClock
) -> None:
    await clocked_store.bind(queue="rooms").enqueue_rollout("task")
    clock.advance(300)
    address = clocked_store.server_address
    (queue,) = (await findings(anywhere, "--store", address, code=1))["queues"]
    assert queue.what == "1 rollout in queue 'rooms', the oldest for 5 min, and nobody is at work on it"
    assert queue.way_out.startswith(f"start a runner: agl runner MODULE:AGENT --store {address} --queue rooms; ")


async def test_a_queue_that_somebody_works_on_is_no_problem(
    anywhere: Command, clocked_store: LightningStoreClient, clock: FakeClock
) -> None:
    for task in range(2):
        await clocked_store.enqueue_rollout(task)
    clock.advance(300)
    await clocked_store.dequeue_rollout("Worker-1")
    (queue,) = (await findings(anywhere, "--store", clocked_store.server_address, code=0))["queues"]
    assert (queue.verdict, queue.what.rpartition("; ")[2]) == ("ok", "1 at work")


async def test_a_clock_that_differs_is_a_warning(
    anywhere: Command, clocked_store: LightningStoreClient, clock: FakeClock
) -> None:
    clock.advance(3600)
    (told,) = (await findings(anywhere, "--store", clocked_store.server_address, code=0))["clock"]
    assert told.verdict == "warning"
    assert told.what.endswith(" ahead of this machine's")


async def test_training_data_that_is_silently_empty_is_a_problem(
    anywhere: Command, own_store: LightningStoreClient
) -> None:
    empty = await succeed(own_store)
    found = await findings(anywhere, "--store", own_store.server_address, code=1)
    assert [(finding.verdict, finding.what) for finding in found["rewards"] + found["spans"]] == [
        ("problem", "1 of the last 1 rollouts that succeeded have none, and no mean counts them"),
        ("problem", f"1 of the last 1 rollouts that succeeded have none: {empty}"),
    ]


async def test_rollouts_without_a_call_of_a_model_are_a_warning(
    anywhere: Command, own_store: LightningStoreClient
) -> None:
    await succeed(own_store, REWARDED)
    (spans,) = (await findings(anywhere, "--store", own_store.server_address, code=0))["spans"]
    assert (spans.verdict, spans.what) == (
        "warning",
        "1 of the last 1 rollouts that succeeded hold no call of a model",
    )


async def test_what_runs_in_silence_and_far_longer_than_others_is_named(
    anywhere: Command, clocked_store: LightningStoreClient, clock: FakeClock
) -> None:
    for _ in range(5):
        await succeed(clocked_store, ASKED, REWARDED)
    stuck = await clocked_store.start_rollout("task", worker_id="Worker-9")
    clock.advance(1800)
    found = await findings(anywhere, "--store", clocked_store.server_address, code=0)
    (silent,), (slow,) = found["silent"], found["slow"]
    assert silent.what == f"nothing was heard of {stuck.rollout_id} for up to 30 min, and no lease ends them"
    assert slow.what == f"{stuck.rollout_id} run for more than 60 s; others take 0 ms"
    assert (silent.verdict, slow.verdict) == ("warning", "warning")


async def test_what_has_a_lease_is_not_called_silent_however_long_that_is(
    anywhere: Command, clocked_store: LightningStoreClient, clock: FakeClock
) -> None:
    config = RolloutConfig(unresponsive_seconds=3600)
    await clocked_store.enqueue_rollout("task", config=config)
    await clocked_store.dequeue_rollout("Worker-1")
    clock.advance(1800)
    assert "silent" not in await findings(anywhere, "--store", clocked_store.server_address, code=0)


async def test_a_worker_that_went_silent_at_work_is_named(
    anywhere: Command, clocked_store: LightningStoreClient, clock: FakeClock
) -> None:
    rollout = await clocked_store.start_rollout("task", worker_id="Worker-9")
    await clocked_store.update_attempt(rollout.rollout_id, "latest", status="unresponsive")
    clock.advance(300)
    workers = (await findings(anywhere, "--store", clocked_store.server_address, code=0))["workers"]
    assert workers[0].what == "1 worker known, 0 busy, 0 heard of in the last 90 s"
    assert (workers[1].verdict, workers[1].what.split()[0]) == ("warning", "Worker-9")


async def test_failures_come_with_the_most_frequent_reason(anywhere: Command, own_store: LightningStoreClient) -> None:
    for reason in ("no room", "no key", "no room"):
        rollout = await own_store.start_rollout("task")
        failure = Failure(kind="agent", type="KeyError", message=reason)
        await own_store.complete_attempt(rollout.rollout_id, rollout.attempt.attempt_id, failure=failure)
    (failures,) = (await findings(anywhere, "--store", own_store.server_address, code=0))["failures"]
    assert failures.verdict == "warning"
    assert failures.what == "3 of the last 3 rollouts that ended failed; most often agent: KeyError: no room"
    assert failures.way_out == f"agl trace {rollout.rollout_id}"


def differ(monkeypatch: pytest.MonkeyPatch, version: str, **of_attempts: Any) -> None:
    """Have this side be another version, whose contract has another attempt.proto."""
    own = reach._own
    changed = FileDescriptorProto(name="agentlightning/v1/attempt.proto", **of_attempts)
    monkeypatch.setattr(reach, "version", lambda _: version)
    monkeypatch.setattr(reach, "_own", lambda name: changed if name == changed.name else own(name))


async def test_a_store_that_is_earlier_and_lacks_something_is_a_warning(
    anywhere: Command, store_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    differ(monkeypatch, "9.9", message_type=[{"name": "Attempt", "field": [{"name": "mood", "number": 99}]}])
    found = await anywhere("doctor", "--store", store_address)
    version, contract, *_ = [line for line in found.out.splitlines() if line.startswith("warning")]
    assert " this is 9.9;" in version
    assert "the store lacks what this side has in attempt.proto  ->" in contract


async def test_a_store_that_is_later_and_has_more_is_none(
    anywhere: Command, store_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    differ(monkeypatch, "0.0.1", message_type=[{"name": "Attempt", "field": [{"name": "rollout_id", "number": 1}]}])
    told = await findings(anywhere, "--store", store_address, code=0)
    assert [told[check][0].verdict for check in ("version", "contract")] == ["ok", "ok"]
    assert told["contract"][0].what == "the store has all that this side knows, and more in attempt.proto"


async def test_where_grpc_goes_by_a_proxy_that_is_said(
    anywhere: Command, no_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://someone:secret@proxy.invalid")
    found = await findings(anywhere, "--store", no_store, code=1)
    assert found["health"][0].way_out.endswith("; gRPC goes by http_proxy, unless no_proxy names the host")


async def test_a_name_that_is_not_known_is_a_problem_and_the_last_thing_looked_at(anywhere: Command) -> None:
    found = await findings(anywhere, "--store", "nowhere.invalid:4747", code=1)
    assert list(found)[-1] == "name"
    assert found["name"][0].what.startswith("nowhere.invalid is not known here: ")


async def test_a_closed_port_is_a_problem(anywhere: Command) -> None:
    with socket.socket() as taken:  # bound, so that nobody else listens, and not listened on
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = await findings(anywhere, "--store", f"127.0.0.1:{port}", code=1)
    assert found["port"][0].what == f"port {port} of 127.0.0.1 is closed: Connection refused"
    assert f"agl store --host 0.0.0.0 --port {port}" in found["port"][0].way_out


async def test_what_answers_and_is_no_store_is_a_problem(anywhere: Command, no_store: str) -> None:
    found = await findings(anywhere, "--store", no_store, code=1)
    assert found["health"][0].what.startswith("what answers there is no store: ")


async def test_a_folder_without_a_store_is_no_problem(
    anywhere: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (told,) = (await findings(anywhere, code=0))["folder"]
    assert told.what == f"no store in {tmp_path / '.agentlightning'}"
    assert not (tmp_path / ".agentlightning").exists()


async def test_a_store_of_the_folder_is_looked_at_with_who_serves_it(
    anywhere: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedStore() as store:
        await LightningStoreClient(store.address).enqueue_rollout("task")
        found = await findings(anywhere, code=0)
        assert found["served"][0].what.endswith(f" at {store.address}")
    assert found["rights"][0].verdict == "ok"
    assert found["queues"][0].what.startswith("1 rollout in queue 'default'")


def test_a_server_that_was_killed_is_told_from_one_that_ended(tmp_path: Path) -> None:
    (tmp_path / "store.db").touch()
    lock = tmp_path / "store.db.lock"
    lock.touch()
    ended = {finding.check: finding.what for finding in folder(tmp_path)}
    lock.write_text('{"pid": 12345, "address": "127.0.0.1:1"}')
    killed = {finding.check: finding.what for finding in folder(tmp_path)}
    assert ended["served"].startswith("by nobody now: a command or a Trainer starts a server")
    assert killed["served"].startswith("by nobody now; process 12345 was killed while it served it")


def test_a_disk_that_is_nearly_full_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store.db").touch()
    full = SimpleNamespace(free=1 << 20)
    monkeypatch.setattr("agentlightning.cli.checks.folder.shutil.disk_usage", lambda _: full)
    (disk,) = [finding for finding in folder(tmp_path) if finding.check == "disk"]
    assert (disk.verdict, disk.what) == ("problem", "1.0 MiB free")


async def test_calls_that_are_not_recorded_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentlightning.tracer.openai.patch", lambda *_: lambda: None)
    found = await recording()
    assert found.verdict == "problem"
    assert found.what == "not recorded: the call of a sync client, or that of an async one"


def test_a_package_that_is_out_of_range_or_missing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["openai>=1.100", "grpcio (<1.2,>=1)", "nothing-of-that-name>=2", 'jinja2>=99; extra == "jinja"']
    monkeypatch.setattr("agentlightning.cli.checks.packages.requires", lambda _: declared)
    found = [finding for finding in packages() if finding.verdict == "problem"]
    assert [finding.way_out for finding in found] == [
        "pip install 'grpcio<1.2,>=1'",
        "pip install 'nothing-of-that-name>=2'",
    ]
