"""What a later version may and may not change: `buf breaking` against the contract as 0.1.0 froze it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUF = ROOT / ".venv-proto/bin/buf"
RELEASED = sorted((ROOT / "proto/released").glob("*.binpb"))
FILES = "proto/agentlightning/v1"
BOUND = 60

pytestmark = pytest.mark.skipif(not BUF.exists(), reason="buf is not installed: `make proto-check` does")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def change(checkout: Path, file: str, pattern: str, replacement: str) -> None:
    path = checkout / FILES / file
    text, count = re.subn(pattern, replacement, path.read_text())
    assert count == 1
    path.write_text(text)


def breaks(checkout: Path, image: Path) -> str:
    """What `buf breaking` has against the contract there; empty where it has nothing."""
    command = [BUF, "breaking", "--against", image]
    run = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=BOUND)
    assert not run.stderr, run.stderr
    assert (run.returncode == 0) == (not run.stdout)
    return run.stdout


@pytest.mark.parametrize("image", RELEASED, ids=lambda image: image.stem)
def test_the_contract_keeps_what_was_released(checkout: Path, image: Path) -> None:
    assert not breaks(checkout, image)


@pytest.mark.parametrize(
    ("file", "pattern", "replacement", "told"),
    [
        ("attempt.proto", r"string type = 2;", "string type = 15;", 'field "2" with name "type"'),
        ("attempt.proto", r"string type = 2;", "string error_type = 2;", '"error_type"'),
        ("attempt.proto", r"string type = 2;", "int64 type = 2;", "type"),
        ("attempt.proto", r"string type = 2;", 'reserved 2; reserved "type";', 'field "2" with name "type"'),
        ("attempt.proto", r"ATTEMPT_STATUS_TIMEOUT = 5;", "reserved 5;", 'enum value "5"'),
        ("attempt.proto", r"ATTEMPT_STATUS_TIMEOUT = 5;", "ATTEMPT_STATUS_TOO_LATE = 5;", "ATTEMPT_STATUS_TIMEOUT"),
        ("store_service.proto", r"rpc GetRun\(.*\n", "", '"GetRun"'),
        ("store_service.proto", r"returns \(stream WatchResponse\)", "returns (WatchResponse)", '"Watch"'),
    ],
    ids=[
        *(
            "a field of another number",
            "a field of another name",
            "a field of another type",
            "no field, though reserved",
        ),
        *("no enum value, though reserved", "an enum value of another name", "no rpc", "no stream"),
    ],
)
def test_it_is_refused(checkout: Path, file: str, pattern: str, replacement: str, told: str) -> None:
    change(checkout, file, pattern, replacement)
    assert told in breaks(checkout, RELEASED[0])


@pytest.mark.parametrize(
    ("file", "pattern", "replacement"),
    [
        ("attempt.proto", r"string type = 2;", "string type = 2; string language = 9;"),
        ("attempt.proto", r"(ATTEMPT_STATUS_TIMEOUT = 5;)", r"\1 ATTEMPT_STATUS_PAUSED = 9;"),
        (
            "store_service.proto",
            r"(  rpc GetRun\(.*\n)",
            r"\1 rpc FindRun(GetRunRequest) returns (GetRunResponse) {}\n",
        ),
    ],
    ids=["another field", "another enum value", "another rpc"],
)
def test_it_is_let_pass(checkout: Path, file: str, pattern: str, replacement: str) -> None:
    change(checkout, file, pattern, replacement)
    assert not breaks(checkout, RELEASED[0])
