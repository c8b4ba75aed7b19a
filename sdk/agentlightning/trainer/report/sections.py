"""The parts of the HTML report, each a function from what is known of a run to markup; None where nothing is known."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise

from agentlightning.trainer.report import lineage, plot
from agentlightning.trainer.report.markup import Content, Markup, joined, tag
from agentlightning.trainer.report.phrases import (
    budget,
    comparison,
    failures,
    fate,
    spent,
    to_export,
    to_resume,
    when_to_resume,
)
from agentlightning.trainer.report.view import Candidate, Decision, Point, Prompt, RunView, Scores, TaskScores
from agentlightning.trainer.report.words import by_kind, changes, money, score, signed

_WHOLE = 1_000_000
"""Context of a diff that leaves nothing out."""


def prompts(view: RunView) -> Markup | None:
    """The best prompt and what differs from the first."""
    return joined(*map(_prompt, view.prompts)) if view.prompts else None


def scores(view: RunView) -> Markup:
    """Mean rewards on both splits, and how sure the difference on the test split is."""
    rows = [_of_split(split, of) for split, of in (("validation", view.validation), ("test", view.test)) if of]
    means = [[once.mode, score(once.mean), by_kind(once.statuses)] for once in view.passes]
    parts = [_table("Mean rewards", ("split", "first prompt", "best prompt", "change"), rows)] if rows else []
    parts += [_table("Mean rewards", ("split", "mean reward", "rollouts"), means)] if means else []
    if rows:
        note = "The best prompt was chosen by the validation split, so its score there is likely to be too high."
        parts.append(tag("p", note))
    return joined(*parts, *_holdout(view)) if parts else tag("p", "No scores are known.")


def search(view: RunView) -> Markup | None:
    """The best so far against rollouts and against money."""
    if not view.curve:
        return None
    by_rollouts = [(float(point.rollouts), point) for point in view.curve if point.rollouts is not None]
    by_cost = [(point.cost, point) for point in view.curve if point.cost is not None]
    parts = [_curve("rollouts", by_rollouts, _dots(view))] if by_rollouts else []
    parts.append(_curve("money", by_cost, []) if by_cost else tag("p", f"Money: {spent(view)}."))
    rows = [[point.version, _told(point.rollouts), _money(point.cost), score(point.score)] for point in view.curve]
    table = _table("Each time the best changed", ("version", "after rollouts", "after spending", "score"), rows)
    return joined(*parts, tag("details", tag("summary", "The numbers of the plots"), table))


def candidates(view: RunView) -> Markup | None:
    """All candidates, each after the one it was made from, with critique, edit and fate."""
    if not view.candidates:
        return None
    parents = {candidate.version: candidate for candidate in view.candidates}
    line = {candidate.version for candidate in lineage.to_best(view)}
    items = [
        _candidate(view, candidate, parents.get(candidate.parent or ""), depth, candidate.version in line)
        for depth, candidate in lineage.in_order(view.candidates)
    ]
    others = [_decision(each) for each in view.decisions if each.version not in parents]
    rest = tag("details", tag("summary", "Other decisions"), tag("ul", others)) if others else ""
    return joined(tag("ol", items, class_="lineage"), rest)


def tasks(view: RunView) -> Markup | None:
    """Each validation task with the first and with the best prompt, those that got worse first."""
    if not view.tasks:
        return None
    better, worse, same = view.better_worse_same()
    told = f"{better} better, {worse} worse, {same} the same."
    found = [task.change for task in view.tasks if task.change is not None]
    drawn = [plot.columns("plot-tasks", f"Change of each validation task: {told}", found)] if better + worse else []
    rows = [_task(task) for task in view.tasks_by_change()]
    titles = ("task", "input", "first prompt", "best prompt", "change")
    return joined(tag("p", told), *drawn, _table("Validation tasks, those that got worse first", titles, rows))


def cost(view: RunView) -> Markup:
    """What failed, and what was spent."""
    told = failures(view)
    facts = [
        ("Failed", told or ("none" if view.failed == 0 else "unknown")),
        ("Tried again", _told(view.retried)),
        ("Edits refused before a rollout", _told(view.failures.get("invalid"))),
        ("Rollouts", _told(view.rollouts)),
        ("Rollouts of the test split", _told(view.test_rollouts or None)),
        ("Calls of the optimiser", _told(view.optimizer_calls)),
        ("Money", spent(view)),
        ("Budget", budget(view)),
        ("Time", "" if view.seconds is None else f"{view.seconds:.0f} s"),
    ]
    rows = [
        [model, _told(used.calls or None), _told(used.input_tokens), _told(used.output_tokens)]
        for model, used in (view.tokens or {}).items()
    ]
    tokens = _table("Tokens", ("model", "calls", "in", "out"), rows) if rows else ""
    return joined(_facts(facts), tokens)


def settings(view: RunView) -> Markup | None:
    """What the algorithm was set to."""
    if not view.settings:
        return None
    return _facts([(name, json.dumps(value, ensure_ascii=False)) for name, value in view.settings.items()])


def commands(view: RunView) -> Markup:
    """What to type to go on, to see it again, to use the prompt."""
    told = [("See this again", f"agl runs show {view.run_id}")]
    if resume := to_resume(view):
        told.insert(0, (when_to_resume(view).capitalize(), resume))
    if view.prompts:
        told.append(("Write the best prompt to a file", to_export(view)))
    if view.prompt_path:
        told.append(("Use it without a server", f"agl.PromptTemplate.load({view.prompt_path!r})"))
    return tag("dl", [joined(tag("dt", name), tag("dd", tag("code", command))) for name, command in told])


def _prompt(prompt: Prompt) -> Markup:
    name = [tag("h3", prompt.name)] if prompt.name else []
    whole = _pre("The best prompt", prompt.best)
    if prompt.first == prompt.best:
        return joined(*name, whole, tag("p", "It is the first one: no edit did better."))
    return joined(*name, whole, tag("h3", "What changed"), _diff(prompt.first, prompt.best))


def _diff(before: str, after: str, context: int = _WHOLE) -> Markup:
    kinds = {"+": "ins", "-": "del", " ": "span"}
    lines = [joined(tag(kinds[mark], f"{mark} {line}"), "\n") for mark, line in changes(before, after, context)]
    return _pre("Changes", joined(lines), "diff")


def _of_split(split: str, of: Scores) -> list[Content]:
    change = "" if of.baseline is None or of.best is None else signed(of.best - of.baseline)
    return [split, score(of.baseline), score(of.best), change]


def _holdout(view: RunView) -> list[Markup]:
    """What nothing was chosen by, in a sentence and a plot."""
    if view.holdout is None:
        return []
    told = f"Test split: {comparison(view)}"
    line = tag("p", f"{told} (a paired bootstrap over the tasks).")
    if view.holdout.interval is None:
        return [line]
    low, high = view.holdout.interval
    return [line, plot.interval("plot-interval", told, low, view.holdout.difference, high)]


def _curve(unit: str, points: Sequence[tuple[float, Point]], dots: Sequence[plot.Dot]) -> Markup:
    names = [f"{point.version} {score(point.score)}" for _, point in points]
    labels = ["" if name == before else name for before, name in pairwise(["", *names])]
    steps = plot.Steps([(x, point.score) for x, point in points], labels)
    caption = f"Score against {unit}. The line is the best so far"
    if dots:
        caption += "; a dot is a candidate, where it was made, joined to its parent, and hollow if it was dropped"
    drawn = plot.search(f"plot-{unit}", _gone(unit, points), unit, steps, dots)
    return tag("figure", tag("figcaption", f"{caption}."), drawn)


def _gone(unit: str, points: Sequence[tuple[float, Point]]) -> str:
    """What a plot shows, for who does not see it."""
    (_, first), (end, last) = points[0], points[-1]
    spending = money(end) if unit == "money" else f"{end:.0f}"
    return (
        f"Best score so far against {unit}: from {score(first.score)} to {score(last.score)} after {spending} {unit}."
    )


def _dots(view: RunView) -> list[plot.Dot]:
    places = {
        candidate.version: (float(candidate.at_rollouts), candidate.score)
        for candidate in view.candidates
        if candidate.at_rollouts is not None and candidate.score is not None
    }
    return [
        plot.Dot(*places[each.version], _titled(view, each), _kind(view, each), places.get(each.parent or ""))
        for each in view.candidates
        if each.version in places
    ]


def _kind(view: RunView, candidate: Candidate) -> str:
    if candidate.version == view.best_version:
        return "best"
    return "tried" if candidate.dropped is None else "dropped"


def _titled(view: RunView, candidate: Candidate, origin: str = "") -> str:
    told = fate(view, candidate)
    return f"{candidate.version}{origin}" + (f": {told}" if told else "")


def _candidate(view: RunView, candidate: Candidate, parent: Candidate | None, depth: int, is_in_line: bool) -> Markup:
    origin = f" from {candidate.parent}" if candidate.parent else ", the first"
    inside = [tag("p", f"Made at {candidate.step}.")] if candidate.step else []
    inside += [tag("h4", "Critique"), _pre("Critique", candidate.critique)] if candidate.critique else []
    inside += [tag("p", f"Edit refused: {fault}") for fault in candidate.edit_faults]
    inside += _edits(candidate, parent)
    about = [_decision(each) for each in view.decisions if each.version == candidate.version]
    inside += [tag("h4", "Decisions"), tag("ul", about)] if about else []
    summary = tag("summary", _titled(view, candidate, origin))
    kind = "best" if is_in_line else None
    return tag("li", tag("details", summary, inside), class_=kind, style=f"--depth: {min(depth, 12)}")


def _edits(candidate: Candidate, parent: Candidate | None) -> list[Markup]:
    """Each template that differs from the parent's; without a parent, all of them."""
    parts: list[Markup] = []
    for name, text in candidate.templates.items():
        before = parent.templates.get(name) if parent else None
        if text and text != before:
            parts.append(tag("h4", f"Edit of {name}" if name else "Prompt" if before is None else "Edit"))
            parts.append(_pre("Prompt", text) if before is None else _diff(before, text, 1))
    return parts


def _decision(decision: Decision) -> Markup:
    numbers = ", ".join(f"{name} {_short(value)}" for name, value in decision.numbers.items())
    return tag("li", f"{decision.kind} at {decision.step}" + (f": {numbers}" if numbers else ""))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _task(task: TaskScores) -> list[Content]:
    change = "" if task.change is None else signed(task.change)
    return [task.id, task.input, score(task.before), score(task.after), change]


def _told(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _money(cost: float | None) -> str:
    return "unknown" if cost is None else money(cost)


def _pre(label: str, content: Content, kind: str | None = None) -> Markup:
    """A text in its own lines; the keyboard can scroll it."""
    return tag("pre", content, tabindex=0, role="group", aria_label=label, class_=kind)


def _facts(facts: Iterable[tuple[str, str]]) -> Markup:
    """Names and values, without those that have none."""
    return tag("dl", [joined(tag("dt", name), tag("dd", value)) for name, value in facts if value])


def _table(caption: str, titles: Sequence[str], rows: Iterable[Sequence[Content]]) -> Markup:
    head = tag("thead", tag("tr", [tag("th", title, scope="col") for title in titles]))
    body = tag(
        "tbody", [tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]]) for row in rows]
    )
    return tag(
        "div",
        tag("table", tag("caption", caption), head, body),
        class_="wide",
        tabindex=0,
        role="group",
        aria_label=caption,
    )
