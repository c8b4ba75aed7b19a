"""What is measured, of which size, and what it should come to. Knows no system's API."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Sizes = Mapping[str, Any]

_EVERY, _FEWER = 1000, 3


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: What it is called there.
        unit: What the number counts.
        value: Which of the workload's values it is.
        more_is_better: A rate, or else a time or a size.
        ratio: How many times better than the peer it should be.
        at_most: What it should not exceed.
        against: Another row of ours, and how much of it this one should reach.
        counts_time: Whether the processor time of an operation is worth a column.
    """

    name: str
    unit: str
    value: str = "rate"
    more_is_better: bool = True
    ratio: float | None = None
    at_most: float | None = None
    against: tuple[str, float] | None = None
    counts_time: bool = False


@dataclass(frozen=True)
class Workload:
    """One thing that a client does to a fresh server.

    Attributes:
        name: What `--only` calls it.
        drive: The function of the driver.
        ours: The sizes for our store and its client.
        raw: What differs through raw stubs. None: it is not done, as with OTLP, which our client has no part in.
        peer: What differs for the peer, which is slower: a rate is a rate. None: it cannot do this.
        rows: What it gives.
        rounds: At most so many: 1 for what samples within itself, 3 for what stands beside a row of five.
        full: The sizes that differ in a full run.
        only_full: Whether it is left out of the others.
        stored: How many finished rollouts the store already holds.
    """

    name: str
    drive: str
    ours: Sizes
    raw: Sizes | None
    peer: Sizes | None
    rows: tuple[Row, ...]
    rounds: int = _EVERY
    full: Sizes = field(default_factory=dict)
    only_full: bool = False
    stored: int = 0

    def is_for(self, system: str) -> bool:
        """Whether a system does it."""
        return {"raw": self.raw, "peer": self.peer}.get(system, self.ours) is not None


SCALED = ("rollouts", "spans", "samples", "pages", "workers_connected", "stored")
"""What `--scale` shrinks."""


def _lifecycle(
    name: str, workers: int, ours: int, peer: int | None, spans_by: str = "completion", **row: Any
) -> Workload:
    return Workload(
        name,
        "lifecycle",
        {"rollouts": ours, "workers": workers, "spans_by": spans_by},
        None if spans_by == "otlp" else {"rollouts": ours // 4},
        None if peer is None else {"rollouts": peer},
        (Row(name, "rollouts/s", counts_time=True, **row),),
        rounds=_EVERY if spans_by == "completion" else _FEWER,
        full={"rollouts": 10_000},
    )


def _enqueue(name: str, batch: int, callers: int, ours: int, peer: int, **row: Any) -> Workload:
    sizes = {"rollouts": ours, "batch": batch, "callers": callers}
    row_of = Row(name, "rollouts/s", counts_time=True, **row)
    return Workload(name, "enqueue", sizes, {}, {"rollouts": peer}, (row_of,), _EVERY if "ratio" in row else _FEWER)


def _ingest(name: str, batch: int, ours: int, peer: int, otlp: bool = False, **row: Any) -> Workload:
    sizes = {"spans": ours, "batch": batch, "otlp": otlp}
    row_of = Row(name, "spans/s", counts_time=True, **row)
    return Workload(
        name,
        "ingest",
        sizes,
        None if otlp else {},
        {"spans": peer},
        (row_of,),
        _EVERY if batch == 100 and not otlp else _FEWER,
    )


WORKLOADS: tuple[Workload, ...] = (
    _lifecycle("lifecycle_1", 1, 250, 100),
    _lifecycle("lifecycle_16", 16, 2000, 200, ratio=25.0),
    Workload(
        "lifecycle_16 (big store)",
        "lifecycle",
        {"rollouts": 10_000, "workers": 16},
        None,
        None,
        (Row("lifecycle_16 (big store)", "rollouts/s", against=("lifecycle_16", 0.9), counts_time=True),),
        only_full=True,
        stored=100_000,
    ),
    _lifecycle("lifecycle_64", 64, 2000, 200, against=("lifecycle_16", 1.0)),
    _lifecycle("lifecycle_16 (spans in a call)", 16, 1000, 200, "call"),
    _lifecycle("lifecycle_16 (spans by OTLP)", 16, 400, 400, "otlp"),
    Workload(
        "memory",
        "lifecycle",
        {"rollouts": 100_000, "workers": 16},
        None,
        None,
        (Row("server memory after 100k rollouts", "MiB", "server_mib", more_is_better=False, at_most=200.0),),
        rounds=1,
        only_full=True,
    ),
    _enqueue("enqueue", 1, 16, 1600, 800, ratio=2.0),
    _enqueue("enqueue (one caller)", 1, 1, 400, 400),
    _enqueue("enqueue_100", 100, 1, 5000, 10_000),
    _ingest("ingest_1", 1, 1000, 1000),
    _ingest("ingest_10", 10, 4000, 1000),
    _ingest("ingest_100", 100, 8000, 1600, ratio=3.0),
    _ingest("ingest_1 (OTLP)", 1, 1000, 1000, otlp=True),
    _ingest("ingest_10 (OTLP)", 10, 4000, 4000, otlp=True),
    _ingest("ingest_100 (OTLP)", 100, 8000, 8000, otlp=True),
    Workload("readback", "readback", {"spans": 20_000, "batch": 500}, {}, {}, (Row("readback", "spans/s", ratio=5.0),)),
    Workload(
        "listing",
        "listing",
        {"rollouts": 100_000, "pages": 100},
        {},
        {"pages": 20},
        (Row("listing: 100 of 100k", "ms", "p50", more_is_better=False),),
        rounds=1,
    ),
    Workload(
        "start",
        "start_latency",
        {"samples": 100, "least_gap": 0.02, "longest_gap": 0.06},
        None,
        {"samples": 6, "least_gap": 0.0, "longest_gap": 5.0},
        (
            Row("enqueue to start, p50", "ms", "p50", more_is_better=False, at_most=5.0),
            Row("enqueue to start, p99", "ms", "p99", more_is_better=False),
        ),
        rounds=1,
    ),
    Workload(
        "wait",
        "wait_latency",
        {"samples": 100},
        None,
        {"samples": 50},
        (
            Row("completion to waiter, p50", "ms", "p50", more_is_better=False),
            Row("completion to waiter, p99", "ms", "p99", more_is_better=False),
        ),
        rounds=1,
    ),
    Workload(
        "many_workers",
        "many_workers",
        {"workers_connected": 1000, "rollouts": 50_000},
        None,
        {"rollouts": 1000},
        (
            Row("1,000 workers, then a burst", "rollouts/s", counts_time=True),
            Row("1,000 workers, idle", "% of a core", "idle_cpu_percent", more_is_better=False),
        ),
        rounds=1,
    ),
)

IMPORT_ROWS = (
    Row("import", "s", "seconds", more_is_better=False, ratio=20.0),
    Row("import, memory", "MiB", "mib", more_is_better=False),
    Row("import, bare", "s", "bare_seconds", more_is_better=False),
)
INSTALL_ROWS = (
    Row("install, size", "MiB", "size", more_is_better=False),
    Row("install, packages", "packages", "packages", more_is_better=False),
)
RATIOS = ("lifecycle_1", "lifecycle_16", "lifecycle_64", "enqueue", "ingest_100", "readback", "import")
"""The rows of the last line."""
