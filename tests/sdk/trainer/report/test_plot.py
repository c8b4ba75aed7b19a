"""Where plots put things."""

import re

import pytest
from agentlightning.trainer.report.plot import Dot, Steps, axis, columns, interval, search


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 148.0], [0, 50, 100, 150]),
        ([0.42, 0.83], [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        ([-3.0, 12.0], [-5, 0, 5, 10, 15]),
        ([0.0, 0.0004], [0.0, 0.0001, 0.0002, 0.0003, 0.0004]),
        ([5.0, 5.0], [4.4, 4.6, 4.8, 5.0, 5.2, 5.4, 5.6]),
    ],
)
def test_an_axis_begins_and_ends_at_round_numbers_around_the_values(values: list[float], ticks: list[float]) -> None:
    made = axis("", values)
    assert list(made.ticks) == pytest.approx(ticks)
    assert (made.low, made.high) == pytest.approx((ticks[0], ticks[-1]))


def test_the_numbers_at_an_axis_have_the_digits_that_tell_them_apart() -> None:
    assert [axis("", [0.0, high]).written(0.5) for high in (1.0, 0.01)] == ["0.5", "0.500"]
    assert axis("", [0.0, 5000.0]).written(2000.0) == "2,000"


def test_the_best_so_far_is_a_staircase() -> None:
    svg = search("a", "b", "rollouts", Steps([(0.0, 0.0), (50.0, 1.0), (100.0, 1.0)], ["v0", "v1", ""]))
    [points] = re.findall(r'points="([^"]*)" class="stairs"', svg)
    places = [tuple(map(float, place.split(","))) for place in points.split()]
    (x0, y0), (x1, _), (_, y1), (x2, _), _ = places
    assert places == [(x0, y0), (x1, y0), (x1, y1), (x2, y1), (x2, y1)]
    assert x0 < x1 < x2
    assert y1 < y0


def test_of_labels_that_would_overlap_the_last_is_written() -> None:
    svg = search("a", "b", "x", Steps([(0.0, 0.0), (99.0, 0.5), (100.0, 1.0)], ["v0", "v1", "v2"]))
    assert re.findall(r'class="label">(.*?)<', svg) == ["v2", "v0"]


def test_a_candidate_is_joined_to_what_it_was_made_from() -> None:
    dots = [Dot(0.0, 0.4, "v0"), Dot(10.0, 0.6, "v1", "best", parent=(0.0, 0.4))]
    svg = search("a", "b", "x", Steps([], []), dots)
    assert svg.count('class="link"') == 1
    assert svg.count("<circle") == 2


def test_no_difference_is_in_the_plot_of_a_difference() -> None:
    assert 'class="zero"' in interval("a", "b", 0.2, 0.3, 0.4)


def test_a_column_is_up_or_down() -> None:
    svg = columns("a", "b", [0.5, -0.5, 0.0])
    assert re.findall(r'height="([\d.]+)" class="(\w+)"', svg)[0][1] == "worse"
    assert svg.count('class="better"') == 1
