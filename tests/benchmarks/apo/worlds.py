"""Simulated worlds: tasks, what a prompt earns on them, and what it earns in truth. Knows no optimizer and no model.

A world is made from its number alone. What happens by chance is a hash of the world, the prompt, the task and how often
that prompt was tried on it: the same for whoever asks, in whatever order.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from statistics import NormalDist, fmean
from typing import Literal

from apo.grammar import PLACEHOLDER, Policy, Rule, policy_of, write

DEVELOPMENT = range(0, 60)
"""The worlds on which parameters may be chosen."""
REPORTED = range(1000, 1060)
"""The worlds on which results are reported; nobody looks at them before."""

SITES = ("north", "south", "east", "west")
NEEDS = (
    "visa",
    "badge",
    "parking",
    "laptop",
    "locker",
    "travel",
    "lunch",
    "badminton",
    "training",
    "desk",
    "phone",
    "key",
)
CODES = ("amber", "basil", "cobalt", "dune", "ember", "fern", "grove", "hazel", "indigo", "jade", "kelp", "lilac")
STANDARD = "standard"
PROSE = (
    "You are the front desk of a company.",
    f"This is what is asked: {PLACEHOLDER}",
    "Answer each need with a code.",
)
SEED_RULES = 5
OPTIONS = 4
SLIP = 0.08
FREE_LINES = 18
DILUTION = 0.02
INTERFERENCE = 0.6
TRAIN, TEST = 29, 400

Feedback = Literal["rich", "symptom", "score"]
Kind = Literal["plain", "saturated", "hopeless", "deceptive", "interference"]


@dataclass(frozen=True)
class Cell:
    """One kind of world out of the grid.

    Attributes:
        binary: Whether a task earns 1 only if all of it is right, and otherwise 0.
        val: How many validation tasks there are.
        feedback: What the metric says of a failure: the right code, the wrong one, or the score alone.
        noise: The standard deviation of the judge.
        fragile: Whether the editor often loses the placeholder.
        conflicts: How many needs have another code in the north and south than in the east and west.
        kind: `plain`; `saturated`: nothing is missing in the seed prompt; `hopeless`: codes follow no rule;
            `deceptive`: four rules of the seed prompt are wrong; `interference`: each of three rules that it lacks
            makes another one followed less often.
    """

    binary: bool = False
    val: int = 28
    feedback: Feedback = "rich"
    noise: float = 0.0
    fragile: bool = False
    conflicts: int = 2
    kind: Kind = "plain"

    def __str__(self) -> str:
        words = ["all or nothing" if self.binary else "partial credit", f"{self.val} validation tasks"]
        words += [] if self.feedback == "rich" else [f"{self.feedback} feedback"]
        words += [f"judge noise {self.noise:g}"] if self.noise else []
        words += ["fragile editor"] if self.fragile else []
        words += [f"{self.conflicts} conflicts"] if self.conflicts != 2 else []
        words += [] if self.kind == "plain" else [self.kind]
        return ", ".join(words)


@dataclass(frozen=True)
class Task:
    """A request: where it comes from and what it needs, with the codes that would be right."""

    id: str
    site: str
    needs: tuple[str, ...]
    expected: tuple[str, ...]
    text: str = field(repr=False)


@dataclass(frozen=True)
class Outcome:
    """What became of one try of a prompt on a task.

    Attributes:
        answer: What the agent said; empty when it failed.
        score: What the judge gave.
        feedback: What the metric says about it.
        is_failure: Whether the agent failed, for want of a placeholder.
    """

    answer: str
    score: float
    feedback: str
    is_failure: bool = False


class World:
    """One world of a cell.

    Args:
        number: Which one.
        cell: Of what kind.
    """

    def __init__(self, number: int, cell: Cell | None = None) -> None:
        self.number = number
        self.cell = cell or Cell()
        rng = Random(f"world {number}")
        self.needs = rng.sample(NEEDS, len(NEEDS))
        self.options = {need: rng.sample(CODES, OPTIONS) for need in NEEDS}
        conflicts = set(rng.sample(self.needs, 4)[: self.cell.conflicts])  # The same needs first, however many.
        self.right = {need: _codes(self.options[need], need in conflicts) for need in self.needs}
        plain = [need for need in self.needs if need not in conflicts]
        self._known = [rng.choice(_part(plain, part)) for part in range(SEED_RULES)]
        unknown = [need for need in self.needs if need not in self._known]
        weakening = zip(unknown[-3:], self._known, strict=False) if self.cell.kind == "interference" else ()
        self._weakened_by = {weakened: need for need, weakened in weakening}
        tasks = [self._task(str(100 + index), rng) for index in range(TRAIN + TEST + self.cell.val)]
        self.train = tasks[:TRAIN]
        self.test = tasks[TRAIN : TRAIN + TEST]
        self.val = tasks[TRAIN + TEST :]

    @cached_property
    def seed_prompt(self) -> str:
        """The prompt to start from."""
        if self.cell.kind == "saturated":
            return self.oracle_prompt
        rules = [Rule(need, self.right[need][SITES[0]]) for need in self._known]
        if self.cell.kind == "deceptive":
            unknown = [need for need in self.needs if need not in self._known]
            rules += [Rule(need, self.options[need][-1]) for need in unknown[:4]]
        return write(rules, PROSE)

    @cached_property
    def oracle_prompt(self) -> str:
        """The prompt that says all there is to say, less what does more harm than good."""
        said = list(self.needs)
        for harmful in self._weakened_by.values():
            fewer = [need for need in said if need != harmful]
            said = max(said, fewer, key=lambda needs: self.true_score(self._prompt_on(needs)))
        return self._prompt_on(said)

    def true_score(self, prompt: str) -> float:
        """What a prompt earns on the test tasks on average, reckoned and not tried."""
        return self.expected_score(prompt, self.test)

    def expected_score(self, prompt: str, tasks: Sequence[Task]) -> float:
        """What a prompt earns on these tasks on average, a noiseless judge supposed."""
        policy = policy_of(prompt)
        if not policy.has_request:
            return 0.0
        care = {need: self._care(policy, need) for need in self.needs}
        return fmean(self._expected(policy, task, care) for task in tasks)

    def attempt(self, prompt: str, task: Task, draw: int) -> Outcome:
        """Try a prompt on a task for the `draw`-th time."""
        policy = policy_of(prompt)
        if not policy.has_request:
            return Outcome("", 0.0, "", is_failure=True)
        rng = self.chance("attempt", prompt, task.id, draw)
        return self.judge(task, self._answers(policy, task, rng), rng)

    def judge(self, task: Task, answers: Sequence[str], rng: Random) -> Outcome:
        """Score the codes that were answered."""
        right = [answer == code for answer, code in zip(answers, task.expected, strict=True)]
        score = float(all(right)) if self.cell.binary else fmean(right)
        if self.cell.noise:
            score = min(max(score + NormalDist(0, self.cell.noise).inv_cdf(rng.uniform(1e-9, 1 - 1e-9)), 0.0), 1.0)
        said = " ".join(f"{need}={code}" for need, code in zip(task.needs, answers, strict=True))
        return Outcome(f"ANSWER {task.id}: {said};", score, self._feedback(task, answers, right, score))

    def chance(self, *about: object) -> Random:
        """The generator of everything that happens by chance about something."""
        text = "\0".join(map(str, (self.number, *about)))
        return Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))

    def _prompt_on(self, needs: Sequence[str]) -> str:
        """The right rules for these needs."""
        rules = []
        for need in needs:
            codes = self.right[need]
            different = sorted(set(codes.values()))
            at = {code: tuple(site for site in SITES if codes[site] == code) for code in different}
            rules += [Rule(need, code, at[code] if len(different) > 1 else ()) for code in different]
        return write(rules, PROSE)

    def _task(self, name: str, rng: Random) -> Task:
        site = rng.choice(SITES)
        weights = {need: (rank + 1) ** -0.6 for rank, need in enumerate(self.needs)}
        chosen: list[str] = []
        for _ in range(rng.randint(2, 4)):
            left = [need for need in self.needs if need not in chosen]
            chosen.append(rng.choices(left, [weights[need] for need in left])[0])
        expected = tuple(self._right(need, site, name) for need in chosen)
        wanted = ", ".join(f"{need} ({'|'.join(sorted(self.options[need]))})" for need in chosen)
        return Task(name, site, tuple(chosen), expected, f"REQUEST {name} from the {site} site needs {wanted}.")

    def _right(self, need: str, site: str, name: str) -> str:
        if self.cell.kind == "hopeless" and need not in self._known:
            return self.chance("hopeless", name, need).choice(self.options[need])
        return self.right[need][site]

    def _answers(self, policy: Policy, task: Task, rng: Random) -> list[str]:
        answers = []
        for need in task.needs:
            codes = policy.codes(need, task.site, task.id) or [STANDARD]
            slips, code = rng.random() >= self._care(policy, need), rng.choice(codes)
            answers.append(STANDARD if slips else code)
        return answers

    def _care(self, policy: Policy, need: str) -> float:
        """How likely the agent is to do as it is told about a need: a long prompt is read less well."""
        care = (1 - SLIP) * max(1 - DILUTION * max(policy.lines - FREE_LINES, 0), 0.0)
        return care * (1 - INTERFERENCE) if self._weakened_by.get(need) in policy.rules else care

    def _expected(self, policy: Policy, task: Task, care: Mapping[str, float]) -> float:
        chances = []
        for need, code in zip(task.needs, task.expected, strict=True):
            codes = policy.codes(need, task.site, task.id)
            chances.append(care[need] * codes.count(code) / len(codes) if codes else 0.0)
        if not self.cell.binary:
            return fmean(chances)
        product = 1.0
        for chance in chances:
            product *= chance
        return product

    def _feedback(self, task: Task, answers: Sequence[str], right: Sequence[bool], score: float) -> str:
        lines = [f"SCORE {score:.4f} task={task.id};"]
        if self.cell.feedback != "score":
            for need, answer, code, is_right in zip(task.needs, answers, task.expected, right, strict=True):
                if not is_right:
                    told = f"expected={code}" if self.cell.feedback == "rich" else f"got={answer}"
                    lines.append(f"WRONG need={need} {told} site={task.site} task={task.id};")
        return " ".join(lines)


def _codes(options: Sequence[str], is_conflict: bool) -> dict[str, str]:
    """The right code at each site."""
    return {site: options[1] if is_conflict and site in SITES[2:] else options[0] for site in SITES}


def _part(needs: Sequence[str], part: int) -> Sequence[str]:
    """One of as many parts as the seed prompt has rules, so that it knows frequent and rare needs in every world."""
    return needs[part * len(needs) // SEED_RULES : (part + 1) * len(needs) // SEED_RULES]
