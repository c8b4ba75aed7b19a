"""`python tests/benchmarks/bench_apo.py`: prompt optimizers beside each other in simulated worlds; see docs/apo.md."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean

import systems
from apo import real
from apo.contestants import PEER_TUTORIAL, REFERENCE, Contestant, Job, contestants, peer_port
from apo.peer_port import PeerSettings
from apo.plot import plot
from apo.referee import Result
from apo.report import BUDGETS, Runs, differences, table
from apo.worlds import DEVELOPMENT, REPORTED, Cell

MAIN = (Cell(), Cell(val=100), Cell(binary=True), Cell(binary=True, val=100), Cell(feedback="symptom"))
REST = (
    Cell(feedback="score"),
    Cell(noise=0.15),
    Cell(fragile=True),
    Cell(conflicts=0),
    Cell(conflicts=4),
    Cell(val=100, feedback="symptom"),
    Cell(val=100, noise=0.15),
    Cell(val=100, feedback="symptom", binary=True, noise=0.15, fragile=True, conflicts=4),
    Cell(kind="saturated"),
    Cell(kind="hopeless"),
    Cell(kind="deceptive"),
    Cell(kind="interference"),
)
PLOTTED = MAIN[:2]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    args = arguments().parse_args(argv)
    logging.getLogger("agentlightning").setLevel(logging.ERROR)  # An edit that is dropped is nothing to warn of here.
    args.output.mkdir(parents=True, exist_ok=True)
    if args.only != "real":
        _grid(args)
    if args.only != "grid":
        _write(args.output / "bench-apo-real.md", _real(args.cache, REPORTED[: args.real], full=args.full))
    return 0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agl-benchmarks"
    parser = argparse.ArgumentParser(prog="python tests/benchmarks/bench_apo.py", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the whole grid, 60 worlds, and the peer freshly installed")
    parser.add_argument("--worlds", type=int, help="how many worlds (default: 40, with --full 60)")
    parser.add_argument("--development", action="store_true", help="the worlds on which parameters may be chosen")
    parser.add_argument("--only", choices=("grid", "real"), help="only the searches in process, or only whole packages")
    parser.add_argument("--contestant", default="", metavar="TEXT", help="in process, only those with this in the name")
    parser.add_argument("--real", type=int, default=1, help="on how many worlds whole packages run, two minutes each")
    parser.add_argument("--cache", type=Path, default=cache, help="where environments are kept (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=systems.HERE / "results", help="for the tables and the plot")
    return parser


def _grid(args: argparse.Namespace) -> None:
    """The searches in process: a table for each cell, and the plot of two."""
    began = time.monotonic()
    worlds = (DEVELOPMENT if args.development else REPORTED)[: args.worlds or (60 if args.full else 40)]
    chosen = [each for each in contestants(args.cache) if args.contestant in each.name]
    by_cell = {cell: _cell(cell, chosen, worlds) for cell in [*MAIN, *(REST if args.full else ())]}
    texts = [text for cell, runs in by_cell.items() for text in _texts(cell, runs)]
    texts.append(f"Worlds {worlds[0]} to {worlds[-1]}, {time.monotonic() - began:.0f} s in all.\n")
    (args.output / "bench-apo.svg").write_text(plot([(str(cell), by_cell[cell]) for cell in PLOTTED]))
    _write(args.output / "bench-apo.md", "\n".join(filter(None, texts)))


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    print(text)


def _cell(cell: Cell, chosen: Sequence[Contestant], worlds: Sequence[int]) -> list[Runs]:
    """All at once: some are processes of their own, and none is timed here."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(partial(_runs, cell, worlds), chosen))


def _runs(cell: Cell, worlds: Sequence[int], contestant: Contestant) -> Runs:
    budgets = BUDGETS if contestant.plans else BUDGETS[-1:]
    jobs = [Job(contestant.name, world, cell, budget) for world in worlds for budget in budgets]
    runs = Runs.of(contestant.name, contestant.run(jobs))
    _say(f"{cell}: {contestant.name}")
    return runs


def _texts(cell: Cell, runs: Sequence[Runs]) -> tuple[str, str]:
    return table(str(cell), runs, PEER_TUTORIAL), differences(runs, REFERENCE)


def _real(cache: Path, worlds: Sequence[int], *, full: bool) -> str:
    """The packages as they are installed, on a few worlds, and our port of the peer's search on the same."""
    packages = [(real.our_package(), worlds), (real.peer_package(cache), worlds)]
    packages += [(real.peer_package(cache, pinned=False), worlds[:1])] if full else []
    lines = [
        "**Whole packages, tutorial settings**: models that answer at once, 8 runners.",
        "",
        "| | worlds | rollouts | calls of critic and editor | seconds | ms a rollout | true score | reported |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for package, numbers in packages:
        lines.append(_real_row(package.name, list(_real_runs(package, numbers))))
    port = peer_port("our port of the peer's search", PeerSettings())
    lines.append(_real_row(port.name, list(port.run([Job(port.name, number, Cell(), 0) for number in worlds]))))
    return "\n".join([*lines, ""])


def _real_runs(package: real.Package, worlds: Sequence[int]) -> Iterator[Result]:
    for number in worlds:
        _say(f"{package.name}: world {number}")
        yield real.run(package, number, Cell())


def _real_row(name: str, results: Sequence[Result]) -> str:
    rollouts = fmean(result.rollouts for result in results)
    calls = fmean(result.calls.get("sim-critic", 0) + result.calls.get("sim-editor", 0) for result in results)
    seconds = [result.seconds for result in results if result.seconds is not None]
    took = [f"{fmean(seconds):.1f}", f"{1000 * fmean(seconds) / rollouts:.0f}"] if seconds else ["", ""]
    last = [result.curve[-1] for result in results]
    scores = [f"{fmean(p.score for p in last):.3f}", f"{fmean(p.reported or 0 for p in last):.3f}"]
    return f"| {' | '.join([name, str(len(results)), f'{rollouts:.0f}', f'{calls:.0f}', *took, *scores])} |"


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except systems.BenchmarkError as error:
        print(f"bench-apo: {error}", file=sys.stderr)
        sys.exit(1)
