"""One measurement of a server by a client in another process: time, processor time, memory. Knows no workload."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Workload = Callable[..., Coroutine[Any, Any, "Measured"]]


@dataclass
class Measured:
    """What one run of a workload gave: values by the names of its rows, and what they cost."""

    values: dict[str, float] = field(default_factory=dict)
    operations: int = 0
    seconds: float = 0.0
    server_seconds: float | None = None
    """Processor time; None where the system does not tell."""
    client_seconds: float | None = None
    server_mib: float | None = None
    """The server's resident memory when the work was done."""
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """The server that is measured."""

    address: str
    pid: int

    @contextlib.contextmanager
    def measured(self, operations: int) -> Iterator[Measured]:
        """Measure a block: its rate, and the processor time that both sides spent on it."""
        measured = Measured(operations=operations)
        server, client, began = self._cpu_seconds(), time.process_time(), time.perf_counter()
        yield measured
        measured.seconds = time.perf_counter() - began
        measured.client_seconds = time.process_time() - client
        if server is not None and (now := self._cpu_seconds()) is not None:
            measured.server_seconds = now - server
        measured.server_mib = resident_mib(self.pid)
        measured.values["rate"] = operations / measured.seconds
        if measured.server_mib is not None:
            measured.values["server_mib"] = measured.server_mib

    def _cpu_seconds(self) -> float | None:
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float | None:
    """A process's resident memory. None where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """The median and the 99th percentile; of fewer than a hundred samples that is the largest."""
    ordered = sorted(milliseconds)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]}


def main(workloads: Iterable[Workload]) -> None:
    """Run the workload that the command line names, of the sizes it gives, against the server that stdin names."""
    [workload] = [workload for workload in workloads if workload.__name__ == sys.argv[1]]
    sizes: dict[str, Any] = json.loads(sys.argv[2])
    server = Server(**json.loads(sys.stdin.readline()))
    print(json.dumps(vars(asyncio.run(workload(server, **sizes)))))
