"""Whole packages in simulated worlds: their store, their runners, models behind HTTP. One run at a time."""

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import systems
from apo.peer_port import PeerSettings
from apo.referee import Referee, Result
from apo.server import WorldServer
from apo.worlds import Cell, World

PEER = "agentlightning[apo]==0.3.0"
RUNNERS = 8
SECONDS = 600.0


@dataclass(frozen=True)
class Package:
    """An installed package with an `agl.APO`.

    Attributes:
        name: In tables.
        python: The interpreter of its environment.
        settings: What its `agl.APO` is given beside the models.
    """

    name: str
    python: Path
    settings: Mapping[str, Any] = field(default_factory=lambda: asdict(PeerSettings()))


def our_package() -> Package:
    """The checkout."""
    return Package("ours, through gRPC and runners", Path(sys.executable))


def peer_package(cache: Path, *, pinned: bool = True) -> Package:
    """The peer as it works, or as a fresh installation is today: with an OpenTelemetry that empties its traces."""
    pins = [f"{name}=={version}" for name, version in systems.PEER_PINS.items()] if pinned else []
    word = "pinned" if pinned else "fresh"
    name = "agentlightning 0.3.0" + ("" if pinned else ", OpenTelemetry not pinned")
    return Package(name, systems.installed(cache / f"peer-apo-{word}", PEER, constraints=pins))


def run(package: Package, number: int, cell: Cell) -> Result:
    """One run on one world.

    Raises:
        BenchmarkError: When it did not end well.
    """
    referee = Referee(World(number, cell))
    with WorldServer(referee) as server:
        said = _drive(package, _job(package, referee.world, server.base_url))
    referee.returns(said["prompt"], said["score"])
    return referee.result(package.name, referee.rollouts, said["seconds"])


def _job(package: Package, world: World, base_url: str) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "seed_prompt": world.seed_prompt,
        "train": [task.text for task in world.train],
        "val": [task.text for task in world.val],
        "runners": RUNNERS,
        "seed": world.number,
        "settings": dict(package.settings),
    }


def _drive(package: Package, job: dict[str, Any]) -> dict[str, Any]:
    command = [str(package.python), str(systems.HERE / "drive_apo.py")]
    pipe = subprocess.PIPE
    with tempfile.TemporaryDirectory(prefix="agl-bench-apo-") as folder:
        variables = dict(systems.environment(command[0])) | {"AGL_SERVER_PORT": str(_free_port())}
        with (
            subprocess.Popen(
                command, text=True, cwd=folder, env=variables, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0
            ) as process,
            systems.stopping(process),
        ):
            try:
                printed, complaint = process.communicate(json.dumps(job) + "\n", timeout=SECONDS)
            except subprocess.TimeoutExpired:
                raise systems.BenchmarkError(f"{package.name}: not done in {SECONDS:g} s") from None
    if process.returncode or not printed.strip():
        raise systems.BenchmarkError(f"{package.name}: {systems.last_line(complaint or printed)}")
    said: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return said


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
