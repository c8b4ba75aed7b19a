"""The paired sequential race: which edits are tried against the incumbent, for how long, and what is kept.

Challengers and incumbent are compared on the same validation tasks, a block at a time, and only until it is clear who
is better. Knows no model's API and no store.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any

from agentlightning import AlgorithmError, NamedResources, PromptTemplate

from agentlightning_algorithms.apo.checks import Bundle, Checks
from agentlightning_algorithms.apo.contender import Contender
from agentlightning_algorithms.apo.finals import Finals
from agentlightning_algorithms.apo.paired import (
    Comparison,
    Verdict,
    cannot_win,
    compare,
    frontier,
    mean_on,
    z_at,
)
from agentlightning_algorithms.apo.prompts import Instructions
from agentlightning_algorithms.apo.race_settings import RaceSettings
from agentlightning_algorithms.apo.reflect import Minibatch, Reflection
from agentlightning_algorithms.apo.trials import Trials
from agentlightning_algorithms.lab import BudgetSpent, Lab

_IDLE_ROUNDS_TO_WIDEN = 3
_WIDER_BY = 2
_WIDEST = 8
_FRONTIER_CHANCE = 0.5
_LAST_INCUMBENTS = 3

_log = logging.getLogger("agentlightning.algorithm.apo")


async def _unheard() -> None:
    pass


@dataclass
class RaceSearch:
    """One search, from the seed to the best prompt.

    Whatever can run at once does, but nothing depends on what ends first: a decision is made when all that it goes by
    is there.

    Attributes:
        settings: What was chosen.
        critics: The styles of criticising.
        editors: The styles of editing.
        lab: Where prompts are tried and models asked.
        initial: The resources to start from.
        train: The tasks that prompts are criticised on.
        val: The tasks that prompts are chosen by.
        notify: Told of the phase, the rollouts done and those expected.
        on_better: Awaited whenever `best` changes.
        best: The best so far. None: the search has not begun.
        stopped_by: What ended the search, in words. None: it has not ended, or there was nothing left to learn.
    """

    settings: RaceSettings
    critics: Sequence[Instructions]
    editors: Sequence[Instructions]
    lab: Lab
    initial: NamedResources
    train: Sequence[Any]
    val: Sequence[Any]
    notify: Callable[[str, int, int], None] = lambda *_: None
    on_better: Callable[[], Awaitable[None]] = _unheard
    best: Contender | None = None
    stopped_by: str | None = None

    def __post_init__(self) -> None:
        settings = self.settings
        self._components = components_of(self.initial, settings)
        self._trials = Trials(self.lab, settings, settings.planned(len(self.train), len(self.val)), self.notify)
        checks = Checks([*self.train, *self.val], settings.max_prompt_chars, settings.leaks)
        self._reflection = Reflection(self._trials, self.initial, len(self.train), checks, self.critics, self.editors)
        self._incumbents: list[Contender] = []
        self._idle = 0
        self._order = self.lab.random("val/order").sample(range(len(self.val)), len(self.val))
        self._finals = Finals(self._trials, self._order, min(settings.block_size, len(self.val)))
        self._curve: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Search until the rollouts are spent or nothing is left to learn.

        Raises:
            AlgorithmError: When the budget is too small for any run, or rollouts give no rewards or no traces.
            ModelError: When the models do not answer any more; the run can be resumed.
            PromptTemplateError: When an initial template is not well-formed.
        """
        self._refuse_the_impossible()
        await self._accept(await self._reflection.seed(self._bundle()))
        try:
            await self._search()
        except BudgetSpent as spent:
            self.stopped_by = spent.limit
            self._drop_unfinished(spent.limit)
            _log.info("The search is stopped by %s", spent.limit)
        await self._decide_finals()

    def summary(self) -> dict[str, Any]:
        """What happened so far, JSON-able."""
        seed, best = (self._incumbents[0], self.best) if self._incumbents else (None, None)
        return {
            "selection": "race",
            "settings": asdict(self.settings),
            "seed": self.settings.seed,
            "baseline_score": self._score(seed),
            "best_score": self._score(best),
            "best_version": best.version if best else None,
            "rollouts": self._trials.asked,
            "optimizer_calls": self._trials.calls,
            "stopped_by": self.stopped_by,
            "failures": dict(self._trials.failures)
            | {"invalid": sum(len(each.edit_faults) for each in self._reflection.made)},
            "candidates": [each.describe() for each in self._reflection.made],
            "curve": list(self._curve),
            "tasks": [self._task(place, seed, best) for place in range(len(self.val))] if seed else [],
        }

    def _bundle(self) -> Bundle:
        """The templates that are tuned, as they are given."""
        tuned = {name for names in self._components for name in names}
        bundle = {
            name: each for name, each in self.initial.items() if isinstance(each, PromptTemplate) and name in tuned
        }
        for name, template in bundle.items():
            _log.info("Tuning %r, whose placeholders are %s", name, sorted(template.placeholders) or "none")
        return bundle

    async def _search(self) -> None:
        for number in count(1):
            parent = self._parent(number)
            wanted = self._wanted(number)
            width = self._payable(wanted)
            self._trials.phase = f"round {number} train"
            seen = await self._reflection.look(parent)
            if seen is not None:
                await self._round(number, parent, seen, width)
            elif self._reflection.is_perfect(incumbent := self._incumbents[-1]):
                _log.info("%s is perfect on all training tasks: nothing is left to learn", incumbent.version)
                return
            if seen is not None and width < wanted:
                # A larger budget makes this round wider: what came after it would be something else by the same name.
                raise BudgetSpent(self._trials.limit)

    async def _round(self, number: int, parent: Contender, seen: Minibatch, width: int) -> None:
        components = self._components[(number - 1) % len(self._components)]
        challengers = await self._reflection.challengers(f"r{number:02}", parent, seen, components, width)
        self._trials.phase = f"round {number} val"
        winner = await self._race(number, challengers) if challengers else None
        self._idle = 0 if winner else self._idle + 1
        if winner:
            await self._accept(winner)

    def _parent(self, number: int) -> Contender:
        """The incumbent; when stuck, by chance one that is the best on some task, the likelier the more they are."""
        random = self.lab.random(f"r{number:02}/parent")
        tried = [each for each in self._reflection.made if each.dropped is None and each.score is not None]
        wins = frontier([each.scores for each in tried], self._order)
        if self._idle >= _IDLE_ROUNDS_TO_WIDEN and any(wins) and random.random() < _FRONTIER_CHANCE:
            return random.choices(tried, wins)[0]
        return self._incumbents[-1]

    def _wanted(self, number: int) -> int:
        """How many edits to try: more while stuck."""
        width = min(self.settings.proposals + _WIDER_BY * (self._idle // _IDLE_ROUNDS_TO_WIDEN), _WIDEST)
        if self._idle and self._idle % _IDLE_ROUNDS_TO_WIDEN == 0:
            self.lab.decide(f"r{number:02}", "widen", version=None, width=width, idle=self._idle)
        return width

    def _payable(self, wanted: int) -> int:
        """How many of them can be paid from a minibatch through the gate to where one can be accepted.

        Raises:
            BudgetSpent: When not even one can be.
        """
        room = self._trials.room()
        batch = min(self.settings.minibatch_size, len(self.train))
        length = min(2 * self.settings.block_size, len(self.val))
        known = sum(score is not None for score in self._incumbents[-1].scores.values())
        by_rollouts = ((room.rollouts or 0) - batch - max(length - known, 0)) // (batch + length)
        by_calls = wanted if room.optimizer_calls is None else room.optimizer_calls // 2
        if room.reached or min(by_rollouts, by_calls) < 1:
            raise BudgetSpent(self._trials.limit)
        return min(wanted, by_rollouts, by_calls)

    async def _race(self, number: int, challengers: list[Contender]) -> Contender | None:
        """The challenger that is better than the incumbent. None: there is none.

        Raises:
            BudgetSpent: When the next block cannot be paid.
        """
        incumbent = self._incumbents[-1]
        order = self._tasks(number, incumbent)
        size = self.settings.block_size
        order = order[: size * self._blocks()]
        for block, start in enumerate(range(0, len(order), size), 1):
            done, rest = order[: start + size], order[start + size :]
            await self._trials.on_val([incumbent, *challengers], done, self._trials.room())
            z = z_at(self.settings.z, self._trials.asked, self._trials.planned)
            found = {each: compare(each.scores, incumbent.scores, done) for each in challengers}
            verdicts = {
                each: self._settled(each, incumbent, done, rest) or found[each].verdict(blocks=block, z=z)
                for each in challengers
            }
            if winners := [each for each in challengers if verdicts[each] == "accept"]:
                return self._won(number, winners, found, z)
            for each in challengers:
                if verdicts[each] == "reject":
                    self._decide(number, "reject", each, found[each], z)
            challengers = [each for each in challengers if verdicts[each] == "open"]
            if not challengers:
                return None
        return None

    def _settled(
        self, each: Contender, incumbent: Contender, done: Sequence[int], rest: Sequence[int]
    ) -> Verdict | None:
        """What follows however sure one is: at the end of a race, or when it cannot be won any more."""
        if not rest:
            return "accept" if compare(each.scores, incumbent.scores, done).mean > 0 else "reject"
        hopeless = cannot_win(each.scores, incumbent.scores, done, rest, self._trials.perfect)
        return "reject" if hopeless else None

    def _tasks(self, number: int, incumbent: Contender) -> list[int]:
        """Validation tasks in the order of a race: first those that the incumbent has a score on, shuffled each time.

        What the incumbent was lost on pairs with nothing and is left out.
        """
        known = [task for task in self._order if incumbent.scores.get(task) is not None]
        self.lab.random(f"r{number:02}/order").shuffle(known)
        return known + [task for task in self._order if task not in incumbent.scores]

    def _blocks(self) -> int:
        """After how many blocks a race ends whatever is known by then: more of them the later it is."""
        first, last = self.settings.blocks
        return first + round((last - first) * min(1.0, self._trials.asked / max(self._trials.planned, 1)))

    def _won(
        self, number: int, winners: Sequence[Contender], found: dict[Contender, Comparison], z: float
    ) -> Contender:
        """The one with the largest mean; of equals the shortest, then the first."""
        winner = min(winners, key=lambda each: (-found[each].mean, each.length))
        self._decide(number, "accept", winner, found[winner], z)
        return winner

    def _decide(self, number: int, kind: str, each: Contender, found: Comparison, z: float) -> None:
        step = f"r{number:02}/race"
        self.lab.decide(step, kind, version=each.version, incumbent=self._incumbents[-1].version, z=z, **asdict(found))
        report = "[Round %02d | Prompt %s] %s: %+.3f (standard error %.3f) on %d pairs against %s"
        numbers = (found.mean, found.error, found.pairs, self._incumbents[-1].version)
        _log.info(report, number, each.version, kind.capitalize(), *numbers)

    async def _accept(self, contender: Contender) -> None:
        self._incumbents.append(contender)
        await self._now_best(contender)

    async def _now_best(self, contender: Contender) -> None:
        self.best = contender
        score = self._score(contender)
        self._curve.append({"rollouts": self._trials.asked, "cost": None, "version": contender.version, "score": score})
        if len(self._curve) > 1:
            _log.info("Best prompt updated: %s. Score so far: %.3f", contender.version, score or 0.0)
        await self.on_better()

    async def _decide_finals(self) -> None:
        """Let the last incumbents and the seed meet; the latest stays unless another one is better."""
        finalists = list(dict.fromkeys([*reversed(self._incumbents[-_LAST_INCUMBENTS:]), self._incumbents[0]]))
        self._trials.phase = "finals"
        winner = await self._finals.winner(finalists)
        self.stopped_by = self.stopped_by or self._finals.stopped_by
        scores = {each.version: self._score(each) for each in finalists}
        tasks = len(self._finals.shared)
        self.lab.decide("finals", "final", version=winner.version, tasks=tasks, scores=scores)
        await self._now_best(winner)

    def _score(self, contender: Contender | None) -> float | None:
        """The mean on what the finalists share, once there is that."""
        if contender is None:
            return None
        return mean_on(contender.scores, self._finals.shared) if self._finals.shared else contender.score

    def _task(self, place: int, seed: Contender | None, best: Contender | None) -> dict[str, Any]:
        text = json.dumps(self.val[place], ensure_ascii=False, default=str)
        return {
            "id": place,
            "input": text if len(text) <= 200 else text[:197] + "...",
            "before": seed.scores.get(place) if seed else None,
            "after": best.scores.get(place) if best else None,
        }

    def _drop_unfinished(self, limit: str) -> None:
        for each in self._reflection.made:
            if each.dropped is None and not each.is_candidate:
                each.drop(f"the search was stopped by {limit}")

    def _refuse_the_impossible(self) -> None:
        room = self.lab.room()
        cheapest = self.settings.cheapest(len(self.train), len(self.val))
        if not replace(room, reached=None).allows(rollouts=cheapest.rollouts, optimizer_calls=cheapest.optimizer_calls):
            raise AlgorithmError(
                f"the budget of {_shown(room.rollouts)} rollouts and {_shown(room.optimizer_calls)} optimizer calls "
                f"cannot pay for the cheapest possible run, of {cheapest.rollouts} rollouts and "
                f"{cheapest.optimizer_calls} calls: the initial prompt and one edit on a minibatch of tasks, both "
                "on two blocks of validation tasks, and the share of the finals. Give more, or make minibatch_size, "
                "block_size or finals_share smaller"
            )


def components_of(resources: NamedResources, settings: RaceSettings) -> list[list[str]]:
    """Which templates are edited in a round, and then in the next, in turn.

    Raises:
        AlgorithmError: When a name is not that of a prompt template, or there is none at all.
    """
    there = [name for name, resource in resources.items() if isinstance(resource, PromptTemplate)]
    chosen = there if isinstance(settings.components, str) else list(settings.components)
    if not chosen or (unknown := set(chosen) - set(there)):
        raise AlgorithmError(
            f"APO tunes prompt templates, but {sorted(unknown) if chosen else 'nothing'} is none of those among the "
            f"initial resources: {sorted(there) or 'there are none'}. Give them to Trainer(initial_resources=...), "
            "or name others in components"
        )
    return [chosen] if settings.components == "all" else [[name] for name in chosen]


def _shown(limit: int | None) -> str:
    return "any number of" if limit is None else str(limit)
