"""A store, a proxy before it and the runner under test, with what scenarios do to them and ask of them.

Knows processes, files and the store's administration. What a runner must do is said in the scenarios.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from json import dumps
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import grpc
import pytest
from agentlightning.v1 import rollout_pb2
from agentlightning.v1 import store_service_pb2 as pb
from agentlightning.v1.store_service_pb2_grpc import StoreServiceStub

from tests.conformance import record
from tests.conformance.faults import lease_of
from tests.conformance.proxy import OPTIONS, Proxy, Said

T = TypeVar("T")

QUEUE = "conformance"
CONCURRENCY = 2
LEASE = 2.0
"""Seconds that everything is leased for: heartbeats are to come every third of it."""
PATIENCE = 20.0
"""Seconds after which what a runner must do is taken as not done."""
LONG_LEASE = {"unresponsive_timeout": {"seconds": 60}}
"""The configuration of rollouts whose lease is not to end while the store is away."""
CLIENT = ("grpc.service_config", dumps({"methodConfig": [{"name": [{}], "waitForReady": True}]}))
"""The suite's own calls wait for a store that comes back."""
GREETING = "Store listening on "


class Work:
    """A rollout of the conformance agent.

    Attributes:
        rollout_id: Its id.
        lines: What the agent wrote so far, in all attempts.
    """

    def __init__(self, folder: Path, ring: Callable[[], None]) -> None:
        folder.mkdir()
        self.rollout_id = ""
        self.log = folder / "agent's log, größer"
        self.gate = folder / "go on"
        self.lines: list[str] = []
        self._ring = ring
        self._unread = b""
        # A named pipe wakes whoever reads it; a file would have to be looked at again and again.
        os.mkfifo(self.log)
        self._pipe = os.open(self.log, os.O_RDWR | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._pipe, self._read)

    def let_go_on(self) -> None:
        """Have the agent end that waits for it."""
        self.gate.touch()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pipe)
        os.close(self._pipe)

    def _read(self) -> None:
        *lines, self._unread = (self._unread + os.read(self._pipe, 1 << 16)).split(b"\n")
        self.lines += [line.decode() for line in lines]
        self._ring()


class Stage:
    """What a scenario plays on.

    Attributes:
        proxy: What the runner takes for the store.
        stub: The store itself, past the proxy.
        patience: Seconds to wait for what must happen.
    """

    proxy: Proxy
    stub: Any

    def __init__(self, command: Sequence[str], folder: Path, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._command = command
        self._folder = folder
        self._works: list[Work] = []
        self._scene = self._first_work = 0
        self._runner: asyncio.subprocess.Process | None = None
        self._ended: asyncio.Future[int] | None = None
        self._began = time.monotonic()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Stage"]:
        """Set it up, and take it down."""
        self._port = 0
        await self.start_store()
        store = f"127.0.0.1:{self._port}"
        try:
            async with Proxy(store) as self.proxy, grpc.aio.insecure_channel(store, [*OPTIONS, CLIENT]) as channel:
                self.stub = StoreServiceStub(channel)
                with self.proxy.asking(lease_of(LEASE)):
                    yield self
                await self._end(self._runner)
        finally:
            await self._end(self._runner)
            await self._end(self._store)
            for work in self._works:
                work.close()

    async def ready(self) -> None:
        """Begin a scenario, with a runner that runs."""
        self._scene, self._first_work = len(self.proxy.record), len(self._works)
        self._began = time.monotonic()
        if self._runner is None or self._runner.returncode is not None:
            await self.start_runner()

    # The runner.

    async def start_runner(self, **settings: str) -> None:
        """Start it, with `AGL_` and each name as its environment."""
        settings = {"STORE": self.proxy.address, "QUEUE": QUEUE, "CONCURRENCY": str(CONCURRENCY), **settings}
        others = {name: value for name, value in os.environ.items() if not name.startswith(("AGL_", "OTEL_"))}
        with self.output.open("ab") as output:
            self._runner = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env=others | {f"AGL_{name}": value for name, value in settings.items()},
                start_new_session=True,
            )
        self._ended = asyncio.ensure_future(self._runner.wait())

    async def kill_runner(self) -> None:
        """Kill -9, so that another can be started."""
        await self._end(self._runner)

    async def end_runner(self) -> int:
        """Its exit code, when it is told to end."""
        self.signal_runner(signal.SIGTERM)
        return await self.exit_code()

    @property
    def output(self) -> Path:
        """Where what the runner writes goes."""
        return self._folder / "runner.log"

    def signal_runner(self, number: signal.Signals) -> None:
        assert self._runner is not None
        self._runner.send_signal(number)

    async def exit_code(self, why_not: Callable[[], Any] = str) -> int:
        """Of the runner, which must end; `why_not` may know why it did not."""
        assert self._ended is not None
        ended, _ = await asyncio.wait({self._ended}, timeout=self.patience)
        return self._ended.result() if ended else self.fail(why_not() or "the runner did not end")

    # The store.

    async def start_store(self) -> None:
        command = [sys.executable, "-m", "agentlightning_server", "--db", str(self._folder / "store.db")]
        with (self._folder / "store.log").open("ab") as log:
            self._store = await asyncio.create_subprocess_exec(
                *command, "--port", str(self._port), stdout=asyncio.subprocess.PIPE, stderr=log, start_new_session=True
            )
        assert self._store.stdout is not None
        greeting = (await asyncio.wait_for(self._store.stdout.readline(), PATIENCE)).decode()
        assert greeting.startswith(GREETING), (self._folder / "store.log").read_text()
        self._port = int(greeting.removeprefix(GREETING).partition(",")[0].rpartition(":")[2])

    async def kill_store(self) -> None:
        """Kill -9, and break every connection with it."""
        self._store.kill()
        await self.proxy.refuse()
        await self._store.wait()

    async def bring_store_back(self) -> None:
        await self.start_store()
        await self.proxy.listen()

    @asynccontextmanager
    async def without_store(self) -> AsyncIterator[Callable[[], int]]:
        """Refuse every connection; says how many were tried."""
        tried = 0

        async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal tried
            tried += 1
            writer.transport.abort()
            self.proxy.bell.ring()

        await self.proxy.refuse()
        host, _, port = self.proxy.address.rpartition(":")
        async with await asyncio.start_server(refuse, host, int(port)):
            yield lambda: tried
        await self.proxy.listen()

    async def stop_store(self) -> None:
        """Tell the store to stop as an operator does, and wait until it has."""
        self._store.terminate()
        await asyncio.wait_for(self._store.wait(), PATIENCE)

    # Work.

    async def give(
        self,
        *,
        waits: bool = False,
        config: Any = None,
        resources_id: str = "",
        resources_version: int = 0,
        **task: object,
    ) -> Work:
        """Enqueue a rollout of the conformance agent; `waits`: until it is let go on."""
        work = Work(self._folder / f"work-{len(self._works)}", self.proxy.bell.ring)
        self._works.append(work)
        task = {"log": str(work.log), **({"wait_for": str(work.gate)} if waits else {}), **task}
        rollout = rollout_pb2.Rollout(
            input_json=dumps(task),
            queue=QUEUE,
            resources_id=resources_id,
            resources_version=resources_version,
            config=rollout_pb2.RolloutConfig(**config or {}),
        )
        answer = await self.stub.EnqueueRollouts(pb.EnqueueRolloutsRequest(rollouts=[rollout]))
        work.rollout_id = answer.rollouts[0].rollout_id
        return work

    async def hears(self, work: Work, line: str, times: int = 1) -> None:
        """Wait until the agent wrote a line."""
        await self.until(f"the agent wrote {line!r}", lambda: work.lines.count(line) >= times)

    async def ended(self, work: Work) -> Any:
        """The rollout, once it is terminal."""
        request = pb.WaitRolloutsRequest(rollout_ids=[work.rollout_id])
        waiting = self.stub.WaitRollouts(request)
        try:
            await self.within(f"{work.rollout_id} ended", _last(waiting))
        finally:
            waiting.cancel()
        return await self.rollout(work)

    async def rollout(self, work: Work) -> Any:
        return (await self.stub.GetRollout(pb.GetRolloutRequest(rollout_id=work.rollout_id))).rollout

    async def attempts(self, work: Work) -> list[Any]:
        """The attempts of a rollout, as the store has them."""
        return list((await self.stub.ListAttempts(pb.ListAttemptsRequest(rollout_id=work.rollout_id))).attempts)

    async def spans(self, work: Work) -> list[Any]:
        """The spans of a rollout, as the store has them."""
        return list((await self.stub.ListSpans(pb.ListSpansRequest(rollout_id=work.rollout_id, page_size=1000))).spans)

    async def cancel(self, work: Work) -> None:
        await self.stub.CancelRollouts(pb.CancelRolloutsRequest(rollout_ids=[work.rollout_id]))

    async def goes_on(self) -> None:
        """Check that the runner does what comes next, in each of its slots."""
        works = [await self.give(waits=True) for _ in range(CONCURRENCY)]
        for work in works:
            await self.hears(work, "began")
        for work in works:
            work.let_go_on()
        for work in works:
            await self.ended(work)

    async def goes_on_in_one_slot(self) -> None:
        """Check that the runner does what comes next beside what it is at work on."""
        await self.ended(await self.give())

    # What was said.

    @property
    def record(self) -> list[Said]:
        """What was said since the scenario began."""
        return self.proxy.record[self._scene :]

    def assigned(self, work: Work) -> str:
        """The id of the attempt handed out first."""
        return str(record.assignments(self.record, work.rollout_id)[0][1].attempt.attempt_id)

    def completed(self, work: Work) -> list[tuple[Said, Any]]:
        return record.completions(self.record, work.rollout_id)

    # Waiting and failing.

    async def until(self, what: str, is_so: Callable[[], T]) -> T:
        """Wait until something is so, looking again whenever anything was said or written."""

        async def look() -> T:
            while not (found := is_so()):
                await self.proxy.bell.rung()
            return found

        return await self.within(what, look())

    async def within(self, what: str, awaited: Awaitable[T]) -> T:
        """What is awaited, which must come before patience is at an end, and before the runner ends."""
        assert self._ended is not None
        waiting = asyncio.ensure_future(awaited)
        either: set[asyncio.Future[Any]] = {waiting, self._ended}
        await asyncio.wait(either, timeout=self.patience, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        await asyncio.wait({waiting})
        if self._ended.done():
            self.fail(f"the runner ended with exit code {self._ended.result()} before {what}")
        self.fail(f"not within {self.patience:g} s: {what}")

    def fail(self, why: str) -> NoReturn:
        """End the scenario, with what was seen."""
        said = record.shown(self.record, self._began)
        written = "\n".join(f"{work.rollout_id}: {work.lines}" for work in self._works[self._first_work :])
        output = self.output.read_text(errors="replace")[-3000:] if self.output.exists() else ""
        pytest.fail(
            f"{why}\n\nwhat was said:\n{said}\n\nwhat the agents wrote:\n{written}\n\nthe runner's output:\n{output}",
            pytrace=False,
        )

    def demand(self, is_so: object, otherwise: str) -> None:
        """Fail unless it is so."""
        if not is_so:
            self.fail(otherwise)

    async def _end(self, process: asyncio.subprocess.Process | None) -> None:
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _last(stream: Any) -> None:
    async for answer in stream:
        if not answer.pending_count:
            return
