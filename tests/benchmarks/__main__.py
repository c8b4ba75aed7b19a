"""`python tests/benchmarks`: measure our store, and with `--peer` another beside it, in alternating rounds."""

import argparse
import datetime
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import environments
import systems
from measure import Measured
from prebuilt import Prebuilt
from report import Cell, Line, Report, lines_of
from systems import BenchmarkError, Cores, System
from workloads import IMPORT_ROWS, INSTALL_ROWS, SCALED, WORKLOADS, Workload


@dataclass(frozen=True)
class Settings:
    """What was asked for."""

    rounds: int
    scale: float
    full: bool
    folder: Path
    cores: Cores

    @property
    def timeout(self) -> float:
        """How many seconds one measurement may take."""
        return 1800.0 if self.full else 300.0

    def sizes(self, workload: Workload, system: System) -> dict[str, Any]:
        """How much of a workload a system does in a round."""
        sizes = dict(workload.ours) | (dict(workload.full) if self.full else {})
        differing = {"raw": workload.raw, "peer": workload.peer}.get(system.name) or {}
        if system.name == "peer" or not self.full:
            sizes |= differing
        batch = sizes.get("batch", 1)
        return {name: self.scaled(value, batch) if name in SCALED else value for name, value in sizes.items()}

    def scaled(self, size: int, batch: int = 1) -> int:
        """A size, shrunk, in whole batches."""
        return max(round(size * self.scale / batch), 1) * batch


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 when something could not be measured."""
    args = arguments().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    settings = Settings(args.rounds, args.scale, args.full, args.dir, Cores.pick())
    chosen = [w for w in WORKLOADS if _is_chosen(w.name, args) and (args.full or not w.only_full)]
    contenders = [systems.ours(), systems.raw()]
    if args.peer:
        contenders.append(systems.peer(args.cache))
    measured = list(_measure(chosen, contenders, settings))
    if _is_chosen("import", args):
        measured += _imports(contenders, settings)
    if _is_chosen("install", args):
        measured += _installs(contenders, args.cache)
    report = Report(_facts(contenders, settings), measured, has_peer=args.peer)
    report.facts["seconds"] = round(time.monotonic() - began)
    report.write(args.output)
    print(report.table())
    return 1 if any(line.failures for line in measured) else 0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agl-benchmarks"
    names = ", ".join([*(workload.name for workload in WORKLOADS), "import", "install"])
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__, epilog=f"Workloads: {names}.")
    parser.add_argument("--peer", action="store_true", help=f"measure {systems.PEER} too, in an environment of its own")
    parser.add_argument("--full", action="store_true", help="larger sizes, a store that is full already, and memory")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this workload; may be repeated")
    parser.add_argument("--skip", action="append", metavar="NAME", default=[], help="not this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="by what to multiply the sizes (default: %(default)s)")
    parser.add_argument("--dir", type=Path, default=systems.CHECKOUT, help="on which disk (default: the checkout's)")
    parser.add_argument("--cache", type=Path, default=cache, help="where environments are kept (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=systems.HERE / "results", help="for the table and the JSON")
    return parser


def _is_chosen(name: str, args: argparse.Namespace) -> bool:
    return name not in args.skip and (not args.only or name in args.only)


def _measure(chosen: Sequence[Workload], contenders: Sequence[System], settings: Settings) -> Iterator[Line]:
    """Every workload once, then every workload again: what disturbs the machine for a while disturbs them all."""
    lines = {workload.name: lines_of(workload.rows) for workload in chosen}
    with Prebuilt(settings.folder, settings.cores) as prebuilt:
        for number in range(settings.rounds):
            for workload in chosen:
                if number >= workload.rounds:
                    continue
                for system in contenders:
                    if not workload.is_for(system.name):
                        continue
                    _say(f"round {number + 1} of {settings.rounds}: {workload.name}, {system.name}")
                    _record(lines[workload.name], system.name, partial(_drive, workload, system, settings, prebuilt))
    for workload in chosen:
        yield from lines[workload.name]


def _drive(workload: Workload, system: System, settings: Settings, prebuilt: Prebuilt) -> Measured:
    """One measurement: a fresh server on one core, a client of it on another."""
    stored = settings.scaled(workload.stored) if workload.stored else 0
    database = prebuilt.database(stored) if stored else None
    with systems.folder_in(settings.folder) as folder:
        if database is not None:
            prebuilt.copy(database, folder)
        return system.drive(folder, workload.drive, settings.sizes(workload, system), settings.cores, settings.timeout)


def _record(lines: Sequence[Line], system: str, measure: Callable[[], Measured]) -> None:
    """Put a measurement into the rows that it gives values for."""
    if any(system in line.failures for line in lines):
        return
    try:
        found = measure()
    except (BenchmarkError, OSError, ValueError) as error:
        for line in lines:
            line.failures[system] = f"{system}: {error}"
        return
    for line in lines:
        if line.row.value in found.values:
            line.cells.setdefault(system, Cell()).add(found.values[line.row.value], found)


def _imports(contenders: Sequence[System], settings: Settings) -> list[Line]:
    lines = lines_of(IMPORT_ROWS)
    for number in range(settings.rounds + 1):
        for system in contenders:
            if system.name != "raw":
                _say(f"import, {system.name}")
                # The first is not counted: it compiles, and reads from the disk.
                counted = lines if number else lines_of(IMPORT_ROWS)
                _record(counted, system.name, partial(environments.import_cost, system.python, settings.cores.client))
    return lines


def _installs(contenders: Sequence[System], cache: Path) -> list[Line]:
    lines = lines_of(INSTALL_ROWS)
    _record(lines, "ours", lambda: environments.install_cost(systems.ours_installed(cache)))
    for system in contenders:
        if system.name == "peer":
            _record(lines, "peer", partial(environments.install_cost, system.python))
    return lines


def _facts(contenders: Sequence[System], settings: Settings) -> dict[str, Any]:
    """What a reader must know of a run: machine, versions, durability."""
    with systems.folder_in(settings.folder) as folder:
        says = systems.raw().drive(folder, "durability", {}, settings.cores, settings.timeout).notes
    ours = {"version": says["version"], "commit": _commit(), "durability": says["durability"]}
    facts: dict[str, Any] = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rounds": settings.rounds,
        "scale": settings.scale,
        "full": settings.full,
        "processes": str(settings.cores),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
            "system": f"{platform.system()} {platform.release()}",
            "file_system": _file_system(settings.folder),
        },
        "ours": ours | contenders[0].versions(),
    }
    for system in contenders:
        if system.name == "peer":
            facts["peer"] = {"durability": "in memory"} | system.versions()
    return facts


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return text.partition("model name")[2].partition("\n")[0].lstrip("\t :") or platform.machine()


def _file_system(folder: Path) -> str:
    """Of what kind the disk is that the databases are on."""
    try:
        return systems.output(["stat", "--file-system", "--format=%T", str(folder)]).strip()
    except (BenchmarkError, OSError):
        return "unknown"


def _commit() -> str:
    try:
        return systems.output(["git", "-C", str(systems.CHECKOUT), "describe", "--always", "--dirty"]).strip()
    except (BenchmarkError, OSError):
        return "unknown"


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(1)
