"""The table and the JSON of what was measured, its ratios and targets. Runs nothing."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measure import Measured
from workloads import RATIOS, Row

NOTES = (
    "Median (least..most) of the rounds; a ratio says how many times better ours is. cpu: milliseconds of processor",
    "time an operation, server/client. Ours is on disk before it answers (WAL, FULL). The peer keeps its store in",
    "memory; it runs with OpenTelemetry 1.38, as its HTTP path loses spans with later releases.",
)


@dataclass
class Cell:
    """One system's part of a row: a value of each round, and what the operations cost."""

    values: list[float] = field(default_factory=list)
    operations: int = 0
    server_ms: list[float] = field(default_factory=list)
    client_ms: list[float] = field(default_factory=list)
    server_mib: float | None = None

    def add(self, value: float, measured: Measured) -> None:
        """Count one more round."""
        self.values.append(value)
        self.operations = measured.operations
        self.server_mib = measured.server_mib
        for samples, seconds in (
            (self.server_ms, measured.server_seconds),
            (self.client_ms, measured.client_seconds),
        ):
            if seconds is not None:
                samples.append(1000 * seconds / measured.operations)

    @property
    def median(self) -> float:
        """The middle of its values."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return figure(self.median)
        return f"{figure(self.median)} ({figure(min(self.values))}..{figure(max(self.values))})"

    def cpu(self) -> str:
        """What an operation costs the server and the client."""
        if not self.server_ms or not self.client_ms:
            return ""
        return f"{figure(statistics.median(self.server_ms))}/{figure(statistics.median(self.client_ms))}"

    def as_json(self) -> dict[str, Any]:
        """For whoever reckons with it."""
        written: dict[str, Any] = {"median": _rounded(self.median), "min": _rounded(min(self.values))}
        written |= {
            "max": _rounded(max(self.values)),
            "rounds": len(self.values),
            "operations_per_round": self.operations,
        }
        for name, samples in (("server_ms_per_operation", self.server_ms), ("client_ms_per_operation", self.client_ms)):
            written[name] = _rounded(statistics.median(samples)) if samples else None
        return written | {"server_mib": None if self.server_mib is None else _rounded(self.server_mib)}


@dataclass
class Line:
    """A row with what was measured for it."""

    row: Row
    cells: dict[str, Cell] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """By system, why there is no value."""

    def cell(self, system: str) -> Cell | None:
        """A system's values, if all its rounds went well."""
        found = self.cells.get(system)
        return found if found is not None and found.values and system not in self.failures else None

    def ratio(self, better: str, worse: str) -> float | None:
        """How many times better one system is than another."""
        mine, theirs = self.cell(better), self.cell(worse)
        if mine is None or theirs is None or not mine.median or not theirs.median:
            return None
        return mine.median / theirs.median if self.row.more_is_better else theirs.median / mine.median


class Report:
    """Everything of one run."""

    def __init__(self, facts: dict[str, Any], lines: Sequence[Line], has_peer: bool) -> None:
        self.facts = facts
        self.lines = {line.row.name: line for line in lines}
        self.has_peer = has_peer

    def table(self) -> str:
        """The aligned table, its notes, and the ratios as the last line."""
        heads = ["", "unit", "ours", "raw stubs", "peer", "ratio", "target", "cpu ours", "cpu raw", "cpu peer"]
        rows = [heads, *map(self._cells, self.lines.values())]
        shown = [n for n, head in enumerate(heads) if self.has_peer or head not in ("peer", "ratio", "cpu peer")]
        widths = {n: max(len(row[n]) for row in rows) for n in shown}
        lines = ["  ".join(row[n].ljust(widths[n]) for n in shown).rstrip() for row in rows]
        failed = [f"failed: {line.row.name}, {why}" for line in self.lines.values() for why in line.failures.values()]
        return "\n".join([*lines, "", *failed, *NOTES, f"Processes: {self.facts['processes']}.", "", self.last_line()])

    def last_line(self) -> str:
        """The ratios to the peer; without it, what the client leaves of the speed of raw stubs."""
        title, other = ("ratios", "peer") if self.has_peer else ("client/raw", "raw")
        return f"{title}: " + " ".join(
            f"{name}={'-' if ratio is None else _plain(ratio)}"
            for name in RATIOS
            if self.has_peer or name != "import"
            for line in [self.lines.get(name)]
            for ratio in [None if line is None else line.ratio("ours", other)]
        )

    def write(self, folder: Path) -> None:
        """Leave the table and the JSON in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        name = "bench-peer" if self.has_peer else "bench"
        (folder / f"{name}.txt").write_text(self.table() + "\n")
        (folder / f"{name}.json").write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def as_json(self) -> dict[str, Any]:
        """The facts of the run and every row."""
        return self.facts | {"rows": [self._row_json(line) for line in self.lines.values()]}

    def _row_json(self, line: Line) -> dict[str, Any]:
        target, is_met = self._target(line)
        ratio = line.ratio("ours", "peer")
        return {
            "name": line.row.name,
            "unit": line.row.unit,
            "more_is_better": line.row.more_is_better,
            "ratio": None if ratio is None else _rounded(ratio),
            "target": target or None,
            "target_met": is_met,
            **{system: cell.as_json() for system, cell in line.cells.items() if cell.values},
            **({"failures": line.failures} if line.failures else {}),
        }

    def _cells(self, line: Line) -> list[str]:
        target, is_met = self._target(line)
        ratio = line.ratio("ours", "peer")
        values, cpus = [], []
        for system in ("ours", "raw", "peer"):
            cell = line.cell(system)
            values.append("failed" if system in line.failures else str(cell or "-"))
            cpus.append(cell.cpu() if cell and line.row.counts_time else "")
        verdict = {True: "met: ", False: "missed: ", None: "? "}[is_met] + target if target else ""
        return [line.row.name, line.row.unit, *values, "-" if ratio is None else f"{figure(ratio)}x", verdict, *cpus]

    def _target(self, line: Line) -> tuple[str, bool | None]:
        """What is wanted of a row, and whether it is so; None when that cannot be said."""
        row, ours = line.row, line.cell("ours")
        if row.ratio is not None:
            ratio = line.ratio("ours", "peer")
            return f"{row.ratio:g}x", None if ratio is None else ratio >= row.ratio
        if row.at_most is not None:
            return f"under {row.at_most:g} {row.unit}", None if ours is None else ours.median < row.at_most
        if row.against is not None:
            name, share = row.against
            other = self.lines[name].cell("ours") if name in self.lines else None
            reached = None if ours is None or other is None else ours.median / other.median
            told = "" if reached is None else f"{reached:.2f} of {name}, "
            return f"{told}{share:g} wanted", None if reached is None else reached >= share
        return "", None


def lines_of(rows: Iterable[Row]) -> list[Line]:
    """Rows to be filled."""
    return [Line(row) for row in rows]


def figure(value: float) -> str:
    """Three digits that mean something."""
    return f"{_rounded(value):,.0f}" if abs(value) >= 100 else _plain(value)


def _plain(value: float) -> str:
    rounded = _rounded(value)
    return f"{rounded:.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
