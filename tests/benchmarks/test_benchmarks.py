"""The benchmark measures, prints and writes everything it says it does. How fast anything was is not looked at."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROWS = [
    "lifecycle_1",
    "lifecycle_16",
    "lifecycle_16 (big store)",
    "lifecycle_64",
    "lifecycle_16 (spans in a call)",
    "lifecycle_16 (spans by OTLP)",
    "server memory after 100k rollouts",
    "enqueue",
    "enqueue (one caller)",
    "enqueue_100",
    "ingest_1",
    "ingest_10",
    "ingest_100",
    "ingest_1 (OTLP)",
    "ingest_10 (OTLP)",
    "ingest_100 (OTLP)",
    "readback",
    "listing: 100 of 100k",
    "enqueue to start, p50",
    "enqueue to start, p99",
    "completion to waiter, p50",
    "completion to waiter, p99",
    "1,000 workers, then a burst",
    "1,000 workers, idle",
    "import",
    "import, memory",
    "import, bare",
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    output = tmp_path_factory.mktemp("results")
    command = [sys.executable, str(Path(__file__).parent), "--full", "--rounds", "1", "--scale", "0.0002"]
    command += ["--skip", "install", "--dir", str(output), "--output", str(output)]  # which takes its time
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120), output


def test_ends_well_with_nothing_left_behind(results: Any) -> None:
    ended, output = results
    assert ended.returncode == 0, ended.stderr
    assert sorted(file.name for file in output.iterdir()) == ["bench.json", "bench.txt"]


def test_the_table_has_every_row_and_ends_with_the_ratios(results: Any) -> None:
    ended, output = results
    assert (output / "bench.txt").read_text() == ended.stdout
    lines = ended.stdout.splitlines()
    assert [line.partition("  ")[0] for line in lines[1 : len(ROWS) + 1]] == ROWS
    names = [pair.partition("=")[0] for pair in lines[-1].removeprefix("client/raw: ").split()]
    assert names == ["lifecycle_1", "lifecycle_16", "lifecycle_64", "enqueue", "ingest_100", "readback"]


def test_the_json_has_every_field(results: Any) -> None:
    _, output = results
    written = json.loads((output / "bench.json").read_text())
    assert {"time", "rounds", "scale", "full", "processes", "machine", "ours", "seconds", "rows"} == written.keys()
    assert {"processor", "cores", "memory_gib", "system", "file_system"} == written["machine"].keys()
    assert "WAL, synchronous=FULL" in written["ours"]["durability"]
    assert [row["name"] for row in written["rows"]] == ROWS
    for row in written["rows"]:
        assert {"name", "unit", "more_is_better", "ratio", "target", "target_met", "ours"} <= row.keys()
        assert {"median", "min", "max", "rounds", "operations_per_round"} <= row["ours"].keys()
