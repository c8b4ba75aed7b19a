"""The simulated critic, editor and reflector: text in, text out. They know nothing but the text they are given.

What they learn from are the records of the worlds' metric and agent (`WRONG ...;`, `SCORE ...;`, `ANSWER ...;`) and the
requests, found in whatever an optimizer wrapped around them. Their whims are a hash of the text and of how often it
was seen.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from apo.grammar import PLACEHOLDER, Rule, block_of, rule_of
from apo.worlds import SITES, STANDARD, World

LESSONS = 3
WRONG_CODE, ONE_CASE, TOO_NARROW = 0.12, 0.10, 0.25
REPLACES, DROPS_RULE, LOSES_PLACEHOLDER, FRAGILE = 0.70, 0.05, 0.04, 0.20
NOTHING = "Nothing in the record went wrong. State more plainly what is wanted."

_WRONG = re.compile(r"WRONG need=(\w+) (expected|got)=(\w+) site=(\w+) task=(\w+);")
_SCORE = re.compile(r"SCORE ([\d.]+) task=(\w+);")
_ANSWER = re.compile(r"ANSWER (\w+): ([\w= ]+);")
_REQUEST = re.compile(r"REQUEST (\w+) from the (\w+) site needs ([^.]+)\.")
_NEED = re.compile(r"(\w+) \(([\w|]+)\)")
_ONE_POINT = re.compile(r"ONE critique point|most important point of a critique")


@dataclass(frozen=True)
class _Failure:
    need: str
    site: str
    task: str
    codes: tuple[str, ...]
    """The codes that may be right: one, where the record names it."""


class Models:
    """The models of one world, with what they were asked.

    Attributes:
        calls: How often each was asked, by name.
        tokens: What each was given and said, 1.3 to a word.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: Counter[tuple[str, str]] = Counter()
        self.calls: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()

    def ask(self, model: str, message: str) -> str:
        """What a model answers: `sim-critic`, `sim-editor` or `sim-reflect`."""
        roles: dict[str, Callable[[str, Random], str]] = {
            "sim-critic": self._criticise,
            "sim-editor": self._edit,
            "sim-reflect": self._reflect,
        }
        rng = self._world.chance(model, message, self._seen[model, message])
        self._seen[model, message] += 1
        answer = roles[model](message, rng)
        self.calls[model] += 1
        self.tokens[model] += tokens(message) + tokens(answer)
        return answer

    def _criticise(self, message: str, rng: Random) -> str:
        lessons = _lessons(message, rng)
        if not lessons:
            return NOTHING
        return "\n".join(["The template lacks these rules:", *map(str, lessons)])

    def _edit(self, message: str, rng: Random) -> str:
        block = block_of(message)
        if block is None:
            return message.strip()
        rest = message.replace(block, "", 1)
        lessons = [rule for line in rest.splitlines() if (rule := rule_of(line)) is not None]
        return self._applied(block, lessons[:1] if _ONE_POINT.search(message) else lessons, rng)

    def _reflect(self, message: str, rng: Random) -> str:
        block = block_of(message)
        return f"```\n{self._applied(block or message.strip(), _lessons(message, rng), rng)}\n```"

    def _applied(self, block: str, lessons: Sequence[Rule], rng: Random) -> str:
        lines = block.splitlines()
        for lesson in lessons:
            if rng.random() < REPLACES:
                lines = [line for line in lines if (rule := rule_of(line)) is None or not rule.meets(lesson)]
            if str(lesson) not in lines:
                lines.insert(len(lines) - 1, str(lesson))
        rules = [line for line in lines if rule_of(line)]
        if rules and rng.random() < DROPS_RULE:
            lines.remove(rng.choice(rules))
        text = "\n".join(lines)
        if rng.random() < (FRAGILE if self._world.cell.fragile else LOSES_PLACEHOLDER):
            text = text.replace(PLACEHOLDER, "the request")
        return text


def tokens(text: str) -> int:
    """About how many tokens a text has."""
    return round(1.3 * len(text.split()))


def _lessons(text: str, rng: Random) -> list[Rule]:
    """Rules that would mend the most frequent failures in a text."""
    failures = _failures(text)
    frequent = Counter(failure.need for failure in failures).most_common()
    order = sorted(frequent, key=lambda pair: (-pair[1], rng.random()))
    found: list[Rule] = []
    for need, _ in order[:LESSONS]:
        found += _lessons_on([failure for failure in failures if failure.need == need], rng)
    return found


def _lessons_on(failures: Sequence[_Failure], rng: Random) -> list[Rule]:
    by_code: dict[str, list[_Failure]] = {}
    for failure in failures:
        by_code.setdefault(rng.choice(failure.codes), []).append(failure)
        if len(failure.codes) > 1:
            break  # It guesses once for all of them.
    need = failures[0].need
    if rng.random() < ONE_CASE:
        code, (case, *_) = next(iter(by_code.items()))
        return [Rule(need, code, request=case.task)]
    narrow = len(by_code) > 1 or rng.random() < TOO_NARROW
    lessons = []
    for code, cases in by_code.items():
        said = rng.choice(sorted({*_codes_in_play(failures), code})) if rng.random() < WRONG_CODE else code
        sites = tuple(site for site in SITES if any(case.site == site for case in cases))
        lessons.append(Rule(need, said, sites if narrow else ()))
    return lessons


def _codes_in_play(failures: Sequence[_Failure]) -> set[str]:
    return {"mistaken"} | {code for failure in failures for code in failure.codes if len(failure.codes) > 1}


def _failures(text: str) -> list[_Failure]:
    requests = {name: (site, dict(_NEED.findall(needs))) for name, site, needs in _REQUEST.findall(text)}
    told = [_told(match, requests) for match in dict.fromkeys(_WRONG.findall(text))]
    return told or _suspected(text, requests)


def _told(match: tuple[str, ...], requests: dict[str, tuple[str, dict[str, str]]]) -> _Failure:
    need, what, code, site, task = match
    if what == "expected":
        return _Failure(need, site, task, (code,))
    options = requests.get(task, ("", {}))[1].get(need, code).split("|")
    return _Failure(need, site, task, tuple(option for option in options if option != code) or (code,))


def _suspected(text: str, requests: dict[str, tuple[str, dict[str, str]]]) -> list[_Failure]:
    """Where the score alone is known: what was answered for want of a rule, and failing that, anything."""
    low = {task for score, task in _SCORE.findall(text) if float(score) < 1}
    answers = {
        task: dict(pair.split("=", 1) for pair in said.split()) for task, said in _ANSWER.findall(text) if task in low
    }
    found = []
    for task, said in answers.items():
        site, options = requests.get(task, ("", {}))
        suspects = [need for need, code in said.items() if code == STANDARD] or list(said)
        for need in suspects:
            codes = tuple(code for code in options.get(need, "").split("|") if code and code != said[need])
            found += [_Failure(need, site, task, codes)] if codes else []
    return found
