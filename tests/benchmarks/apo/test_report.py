"""The report says what the runs came to, and overrates nobody."""

import math
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from apo.contestants import Job, peer_port
from apo.peer_port import PeerSettings
from apo.plot import plot
from apo.referee import Point, Result
from apo.report import BUDGETS, Runs, differences, interval, reached_at, score_at, table
from apo.worlds import Cell


def result(*points: tuple[int, float], name: str = "ours", world: int = 1, budget: int = 1200) -> Result:
    curve = [Point(0, 0.4), *(Point(*point) for point in points)]
    return Result(name, world, "a cell", budget, seed=0.4, oracle=0.9, curve=curve, rollouts=budget)


def test_the_score_at_a_budget_is_that_of_the_prompt_returned_then() -> None:
    found = result((28, 0.5), (227, 0.8))
    assert [score_at(found, budget) for budget in (27, 28, 226, 227)] == [0.4, 0.5, 0.5, 0.8]


def test_what_is_found_beyond_the_budget_does_not_count_as_reached() -> None:
    assert reached_at(result((1201, 0.8))) == math.inf
    assert reached_at(result((1200, 0.8))) == 1200


def test_a_contestant_that_plans_is_scored_by_its_run_with_that_budget() -> None:
    runs = Runs.of("ours", [result((100, 0.6), budget=226), result((100, 0.5), (300, 0.8), budget=1200)])
    assert [runs.scores(budget) for budget in (226, 400)] == [[0.6], [0.8]]


def test_the_bootstrap_is_the_same_each_time_and_holds_the_mean() -> None:
    values = [0.1, 0.2, 0.3, 0.6]
    assert interval(values) == interval(values)
    assert interval(values)[0] < 0.3 < interval(values)[1]


@pytest.mark.parametrize(
    ("mine", "theirs", "told"),
    [([100], [400], "4.0x"), ([100], [], "∞"), ([], [400], "0.0x"), ([], [], ""), ([0], [0], "1.0x")],
    ids=["both", "the peer never", "we never", "neither", "at once"],
)
def test_the_ratio_to_the_peer_counts_who_never_got_there(mine: list[int], theirs: list[int], told: str) -> None:
    ours = Runs.of("ours", [result(*((at, 0.8) for at in mine))])
    peer = Runs.of("peer", [result(*((at, 0.8) for at in theirs), name="peer")])
    row = next(line for line in table("a cell", [ours, peer], "peer").splitlines() if line.startswith("| ours"))
    assert row.split(" | ")[7].partition(" ")[0] == told


def test_table_differences_and_plot_are_of_all_contestants() -> None:
    contestants = [
        Runs.of(name, peer_port(name, settings).run([Job(name, world, Cell(), BUDGETS[-1]) for world in (1, 2)]))
        for name, settings in (("two", PeerSettings(beam_rounds=None)), ("one", PeerSettings(beam_width=1)))
    ]
    assert table("a cell", contestants, "two").count("\n| ") == 4
    assert differences(contestants, "two").startswith("| difference from two")
    drawn = ElementTree.fromstring(plot([("a cell", contestants)]))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == 2


def test_the_command_leaves_a_table_of_each_main_cell_and_a_plot(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "bench_apo.py"
    command = [sys.executable, str(script), "--development", "--only", "grid", "--worlds", "1"]
    command += ["--contestant", "tutorial", "--output", str(tmp_path)]  # The others would be installed.
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bench-apo.md", "bench-apo.svg"]
    assert (tmp_path / "bench-apo.md").read_text().count("| agentlightning 0.3.0, tutorial settings |") == 5
