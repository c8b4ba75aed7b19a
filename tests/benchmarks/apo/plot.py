"""The plot of scores against rollouts, written as SVG by hand. Knows only the results."""

from collections.abc import Sequence
from html import escape
from statistics import fmean

from apo.report import BUDGETS, SHARE, Runs

COLOURS = ("#0b6e4f", "#1f77b4", "#d62728", "#ff9896", "#9467bd", "#c5b0d5", "#8c564b", "#7f7f7f")
WIDTH, HEIGHT, LEFT, TOP, GAP = 400, 260, 44, 34, 60
STEP = 20
LOWEST, HIGHEST = 0.0, 1.0


def plot(panels: Sequence[tuple[str, Sequence[Runs]]]) -> str:
    """A panel for each cell, side by side, with one legend below; a line is a contestant's mean over the worlds."""
    names = list(dict.fromkeys(runs.name for _, contestants in panels for runs in contestants))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    width = LEFT + len(panels) * (WIDTH + GAP)
    height = TOP + HEIGHT + 44 + 18 * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for place, (cell, contestants) in enumerate(panels):
        parts += _panel(LEFT + place * (WIDTH + GAP), cell, contestants, colours)
    for place, name in enumerate(names):
        y = TOP + HEIGHT + 50 + 18 * place
        parts.append(
            f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + 24}" y2="{y}" stroke="{colours[name]}" stroke-width="3"/>'
        )
        parts.append(f'<text x="{LEFT + 32}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: int, cell: str, contestants: Sequence[Runs], colours: dict[str, str]) -> list[str]:
    parts = [f'<text x="{left}" y="18" font-weight="bold">{escape(cell)}</text>']
    for tenth in range(0, 11, 2):
        y = _y(tenth / 10)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + WIDTH}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
    for budget in (0, *BUDGETS):
        middle = f'x="{_x(left, budget):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle"'
        parts.append(f"<text {middle}>{budget}</text>")
    parts.append(f'<text x="{left + WIDTH}" y="{TOP + HEIGHT + 32}" text-anchor="end">rollouts</text>')
    enough = SHARE * fmean(result.oracle for result in contestants[0].longest())
    y = _y(enough)
    parts.append(
        f'<line x1="{left}" y1="{y:.1f}" x2="{left + WIDTH}" y2="{y:.1f}" stroke="#888" stroke-dasharray="4 4"/>'
    )
    parts.append(f'<text x="{left + 4}" y="{y - 4:.1f}" fill="#666">80 % of the oracle</text>')
    return parts + [_line(left, runs, colours[runs.name]) for runs in contestants]


def _line(left: int, runs: Runs, colour: str) -> str:
    points = " ".join(
        f"{_x(left, rollouts):.1f},{_y(fmean(runs.scores(rollouts))):.1f}"
        for rollouts in range(0, BUDGETS[-1] + 1, STEP)
    )
    title = f"<title>{escape(runs.name)}</title>"
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2">{title}</polyline>'


def _x(left: int, rollouts: float) -> float:
    return left + WIDTH * rollouts / BUDGETS[-1]


def _y(score: float) -> float:
    return TOP + HEIGHT * (1 - (score - LOWEST) / (HIGHEST - LOWEST))
