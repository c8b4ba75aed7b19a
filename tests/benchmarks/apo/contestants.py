"""The optimizers that are compared, each as a function from worlds to results: how it is driven, not how it works.

Ours run in process on a `SimulatedLab`; `gepa` is the real package, in an environment and a process of its own;
agentlightning 0.3.0 is our port of its search, which is compared with the real package on some worlds.
"""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import systems
from agentlightning_algorithms.lab import Lab
from apo.lab import SimulatedLab
from apo.ours import full, race
from apo.peer_port import DEFAULTS, PeerSettings, run_peer_port
from apo.referee import Referee, Result
from apo.worlds import Cell, World

GEPA = "gepa==0.1.4"
REFERENCE = "gepa 0.1.4, pareto (default)"
PEER_TUTORIAL = "agentlightning 0.3.0, tutorial settings"
DRIVER = systems.HERE / "drive_gepa.py"


@dataclass(frozen=True)
class Job:
    """One optimizer in one world with one budget."""

    contestant: str
    world: int
    cell: Cell
    budget: int


class Search(Protocol):
    """One of our searches, as the comparison drives it."""

    async def run(self) -> None:
        """Search until the budget is spent."""

    def summary(self) -> dict[str, Any]:
        """What happened; `candidates` and `curve` are read."""


@dataclass(frozen=True)
class Contestant:
    """An optimizer with its settings.

    Attributes:
        name: In tables.
        run: Does jobs.
        plans: Whether it does different things when it knows that it has more rollouts, so that each budget needs a
            run of its own.
    """

    name: str
    run: Callable[[Sequence[Job]], Iterator[Result]] = field(repr=False)
    plans: bool = False


def ours(name: str, search: Callable[[Lab, World], Search], plans: bool = False) -> Contestant:
    """A search of ours."""
    return Contestant(name, partial(map, partial(_run_ours, search)), plans)


def peer_port(name: str, settings: PeerSettings) -> Contestant:
    """Our port of agentlightning 0.3.0's search."""
    return Contestant(name, partial(map, partial(_run_peer_port, settings)))


def gepa(name: str, cache: Path, selection: str) -> Contestant:
    """The `gepa` package, with one of its ways to choose parents; it is installed when it is first run."""
    return Contestant(name, partial(_run_gepa, cache, selection))


def contestants(cache: Path) -> list[Contestant]:
    """All that are compared, each with its documented settings and, where there are any, its best known."""
    return [
        ours("ours, race", race, plans=True),
        ours("ours, full, tutorial settings", full),
        peer_port(PEER_TUTORIAL, PeerSettings(beam_rounds=None)),
        peer_port("agentlightning 0.3.0, defaults", PeerSettings(**asdict(DEFAULTS) | {"beam_rounds": None})),
        gepa(REFERENCE, cache, "pareto"),
        gepa("gepa 0.1.4, current_best", cache, "current_best"),
    ]


def _run_ours(search: Callable[[Lab, World], Search], job: Job) -> Result:
    referee = Referee(World(job.world, job.cell))
    running = search(SimulatedLab(referee, rollouts=job.budget), referee.world)
    asyncio.run(running.run())
    summary = running.summary()
    texts = {candidate["version"]: candidate["template"] for candidate in summary["candidates"]}
    for point in summary["curve"]:
        referee.returns(texts[point["version"]], point["score"], point["rollouts"])
    return referee.result(job.contestant, job.budget)


def _run_peer_port(settings: PeerSettings, job: Job) -> Result:
    return run_peer_port(job.contestant, Referee(World(job.world, job.cell), job.budget or None), job.budget, settings)


def _run_gepa(cache: Path, selection: str, jobs: Sequence[Job]) -> Iterator[Result]:
    python = systems.installed(cache / GEPA.replace("==", "-"), GEPA)
    pipe = subprocess.PIPE
    lines = "".join(json.dumps(asdict(job) | {"selection": selection}) + "\n" for job in jobs)
    process = systems.start([str(python), str(DRIVER)], None, stdin=pipe, stdout=pipe, stderr=pipe)
    with systems.stopping(process):
        printed, complaint = process.communicate(lines)
    if process.returncode:
        raise systems.BenchmarkError(f"gepa: {systems.last_line(complaint)}")
    for line in printed.splitlines():
        yield Result.of_json(json.loads(line))
