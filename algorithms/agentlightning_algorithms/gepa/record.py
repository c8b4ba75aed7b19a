"""What a search has tried and decided so far, as its summary tells it. Tries nothing and decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentlightning import ResourcesUpdate

_SHOWN_OF_INPUT = 200


@dataclass
class Candidate:
    """A text for each prompt template that is tuned.

    Attributes:
        version: `v0` for the initial ones.
        texts: The texts by the names of the resources.
        parents: What it was made from; a merger of two has both.
        step: The iteration that it was made in.
        critique: What the model said when it proposed the new text.
        edit_faults: Why its proposals could not be tried.
        dropped: Why it was given up.
        resources: Its record in the store, once it was tried.
        gate: The sum of its scores on the last train tasks it was tried on.
        score: The mean on the validation tasks.
        scores: The score on each of them, by its place.
        at_rollouts: The rollouts spent when it was made, or when its score was known.
    """

    version: str
    texts: Mapping[str, str]
    parents: Sequence["Candidate"] = ()
    step: str = "seed"
    critique: str = ""
    edit_faults: list[str] = field(default_factory=list)
    dropped: str | None = None
    resources: ResourcesUpdate | None = None
    gate: float | None = None
    score: float | None = None
    scores: Mapping[int, float] = field(default_factory=dict)
    at_rollouts: int = 0

    @property
    def changed(self) -> list[str]:
        """The names of the texts that none of its parents has; of the initial candidate, all."""
        known = [parent.texts for parent in self.parents]
        return [name for name, text in self.texts.items() if all(texts[name] != text for texts in known)]

    def describe(self) -> dict[str, Any]:
        """Its record, JSON-able."""
        names = self.changed or list(self.texts)
        return {
            "version": self.version,
            "parent": self.parents[0].version if self.parents else None,
            "parents": [parent.version for parent in self.parents],
            "step": self.step,
            "component": ", ".join(names),
            "template": self.texts[names[0]],
            "templates": dict(self.texts),
            "resources_id": self.resources.resources_id if self.resources else None,
            "critique": self.critique,
            "edit_faults": list(self.edit_faults),
            "dropped": self.dropped,
            "score": self.score,
            "tasks_scored": len(self.scores),
            "at_rollouts": self.at_rollouts,
        }


class Record:
    """All candidates in the order in which they were made, how the best score grew, and what was decided.

    Attributes:
        candidates: The first is the initial one.
        scored: Those with a score on the validation tasks, in the order in which `gepa` numbers them.
        curve: The best score and the rollouts spent, each time the best changed.
        decisions: What was accepted, rejected and passed over.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.candidates = [Candidate("v0", dict(texts))]
        self.scored: list[Candidate] = []
        self.curve: list[dict[str, Any]] = []
        self.decisions: list[dict[str, Any]] = []

    @property
    def best(self) -> Candidate | None:
        """The candidate with the best score; of equals, the earliest."""
        return max(self.scored, key=lambda candidate: candidate.score or 0.0, default=None)

    def of(self, texts: Mapping[str, str], step: str) -> Candidate:
        """The candidate with these texts; one that is new is taken note of."""
        found = next((candidate for candidate in self.candidates if candidate.texts == texts), None)
        return found or self.add(texts, step=step)

    def add(self, texts: Mapping[str, str], **known: Any) -> Candidate:
        """Take note of a new candidate."""
        candidate = Candidate(f"v{len(self.candidates)}", dict(texts), **known)
        self.candidates.append(candidate)
        return candidate

    def reject(self, step: str, before: float, after: float, reason: str) -> None:
        """Note that a candidate of this step, of which the sum on its train tasks is known, was not taken on."""
        for candidate in self.candidates:
            if (candidate.step, candidate.gate, candidate.score, candidate.dropped) == (step, after, None, None):
                candidate.dropped = reason
                return self.decide(step, "reject", version=candidate.version, before=before, after=after)

    def rivals(self, texts: Mapping[str, str], name: str) -> dict[str, str]:
        """The texts that there were under a name together with these others, and the first version of each."""
        return {
            candidate.texts[name]: candidate.version
            for candidate in reversed(self.candidates)
            if {**candidate.texts, name: ""} == {**texts, name: ""}
        }

    def score(self, candidate: Candidate, score: float, scores: Mapping[int, float], rollouts: int) -> bool:
        """Note what a candidate came to on the validation tasks; true when it is the best now."""
        candidate.score, candidate.scores, candidate.at_rollouts = score, dict(scores), rollouts
        candidate.dropped = None
        self.scored.append(candidate)
        if self.best is not candidate:
            return False
        self._mark(rollouts)
        return True

    def decide(self, step: str, kind: str, **about: Any) -> None:
        """Note a decision."""
        self.decisions.append({"step": step, "kind": kind, **about})

    def end(self, rollouts: int) -> None:
        """Note what the search ended with."""
        if self.best is not None:
            self._mark(rollouts)
            self.decide("end", "final", version=self.best.version, score=self.best.score)

    def summary(self, val: Sequence[Any]) -> dict[str, Any]:
        """What happened so far, JSON-able.

        Args:
            val: The validation tasks.
        """
        seed, best = self.candidates[0], self.best
        return {
            "baseline_score": seed.score,
            "best_score": best.score if best else None,
            "best_version": best.version if best else None,
            "candidates": [candidate.describe() for candidate in self.candidates],
            "curve": list(self.curve),
            "decisions": list(self.decisions),
            "tasks": [
                {"id": place, "input": str(task)[:_SHOWN_OF_INPUT], "before": before, "after": best.scores.get(place)}
                for place, task in enumerate(val)
                if best is not None and (before := seed.scores.get(place)) is not None
            ],
            "holdout": None,
        }

    def _mark(self, rollouts: int) -> None:
        assert self.best is not None
        score, version = self.best.score, self.best.version
        self.curve.append({"rollouts": rollouts, "cost": None, "version": version, "score": score})
