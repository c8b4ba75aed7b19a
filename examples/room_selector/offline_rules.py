"""What the simulated model knows of booking rooms: the rules, how people word them, and how to follow them.

Knows nothing of the tasks and their expected answers; it sees only text and the rooms that a tool returned.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

NO_ROOM = "No Room"

Room = dict[str, Any]


@dataclass(frozen=True)
class Meeting:
    """What a prompt asks for, as far as it says."""

    date: str | None
    time: str | None
    duration_min: int | None
    attendees: int
    needs: frozenset[str]
    accessible_required: bool

    @classmethod
    def read(cls, prompt: str) -> "Meeting":
        duration = _first(r"(\d+)[\s-]*min|duration\D{0,20}(\d+)", prompt)
        attendees = _first(
            r"(\d+)\s+(?:attendees|people|persons|participants|guests)"
            r"|(?:attendees|people|participants)\W{1,3}(\d+)|at least (\d+)",
            prompt,
        )
        return cls(
            date=_first(r"(\d{4}-\d{2}-\d{2})", prompt),
            time=_first(r"\b(\d{1,2}:\d{2})\b", prompt),
            duration_min=int(duration) if duration else None,
            attendees=int(attendees or 0),
            needs=frozenset(re.findall(r"[\w-]+", _first(r"\[([^\]]*)\]", prompt) or "")),
            accessible_required=(_first(r"accessib\w*[^.\n]{0,30}?\b(true|false)\b", prompt) or "").lower() == "true",
        )


@dataclass(frozen=True)
class Rule:
    """A rule of booking.

    Attributes:
        name: What the simulation calls it.
        pattern: Matches a sentence that states the rule.
        odds_unstated: How often the model follows it unasked.
        critique: How the critic asks for it.
        wordings: How the editor writes it.
    """

    name: str
    pattern: str
    odds_unstated: float
    critique: str
    wordings: tuple[str, ...]

    def is_stated_in(self, sentence: str) -> bool:
        return re.search(self.pattern, sentence, re.IGNORECASE) is not None


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "free",
            r"\b(free|available|vacant|unbooked|unoccupied)\b"
            r"|\b(not|never|avoid|skip|exclude|ignore)\b.*\b(booked|busy|occupied|taken|reserved)\b",
            0.92,
            "A room was chosen that somebody else has at that time. Tell the model to take only rooms that are free.",
            (
                "Consider only rooms that are free for the whole meeting.",
                "Skip rooms that are already booked at that time.",
                "The room has to be available from start to end.",
            ),
        ),
        Rule(
            "capacity",
            r"^(?=.*\b(capacity|seats?|seating|holds?|accommodates?|large enough|big enough|fits?)\b)"
            r"(?=.*\b(at least|enough|no (fewer|less)|not (smaller|less|fewer)|or more|all|everyone|everybody|must)\b)"
            r"|\btoo small\b",
            0.94,
            "A room was chosen that is too small for the group. Tell the model that capacity must be at least the "
            "number of people.",
            (
                "The capacity has to be at least the number of attendees.",
                "The room must seat everyone who attends.",
                "Rule out rooms that are not large enough for the group.",
            ),
        ),
        Rule(
            "equipment",
            r"^(?=.*\b(equipment|equipped|needs|needed|items?|requested|must)\b)"
            r"(?=.*\b(all|every|each|must (have|include|offer|provide)|lack\w*|missing|without)\b)",
            0.92,
            "A room was chosen without some of what was asked for. Tell the model that every requested item of "
            "equipment has to be there.",
            (
                "The room must have all of the needed equipment.",
                "Rule out rooms that lack any of the requested items.",
                "Every item in the list of needs has to be in the room.",
            ),
        ),
        Rule(
            "accessible",
            r"\b(if|when|whenever|where)\b[^.;\n]{0,40}accessib|\bonly\b[^.;,\n]{0,30}(accessible|wheelchair|step-free)"
            r"|\bmust be (wheelchair[- ])?accessible|accessib\w+[^.;\n]{0,25}\b(must|only (if|when))\b",
            0.85,
            "A room was chosen that a wheelchair cannot reach. Say that if accessibility is required, others are out.",
            (
                "When accessibility is required, rule out the rooms without it.",
                "If an accessible room is asked for, no other will do.",
                "Take only accessible rooms where the request asks for that.",
            ),
        ),
        Rule(
            "no_room",
            r"^(?=.*(?-i:\bNo Room\b))(?=.*\b(answer|reply|respond|return|say|write|output|give|choose|state)\b)",
            0.3,
            f"There was nothing suitable, and the answer did not put it as expected. Have it reply {NO_ROOM} then.",
            (
                f'If nothing suits, answer "{NO_ROOM}".',
                f"Reply exactly {NO_ROOM} when every candidate has been ruled out.",
                f"Say {NO_ROOM} rather than settle for something unsuitable.",
            ),
        ),
        Rule(
            "tightest",
            r"\bsmallest\b(?! distance)|\btightest\b|\bclosest (in )?(size|capacity)"
            r"|\b(fewest|least|lowest|minimi[sz]\w*)\b[^.;,\n]{0,25}\b(seats|capacity)\b",
            0.3,
            "A bigger room than needed was chosen. Tell the model to prefer the smallest one that suits.",
            (
                "Of the rooms that suit, choose the smallest.",
                "Prefer the tightest match between group and room.",
                "Leave the fewest empty seats.",
            ),
        ),
        Rule(
            "extras",
            r"\b(fewest|least|minimi[sz]\w*|minimal|as few|as little)\b[^.;\n]{0,40}"
            r"\b(extras?|additional|unneeded|unnecessary|surplus|superfluous|equipment)\b|\bno more equipment than\b",
            0.7,
            "Of two rooms of one size, the one with more in it was chosen. Ask for the fewest extras.",
            (
                "Among equals, choose the one with the fewest extras.",
                "Break ties by the least unneeded equipment.",
                "With sizes equal, as few additional items as possible should stand idle.",
            ),
        ),
        Rule(
            "nearest",
            r"\b(nearest|shortest|closest)\b(?! (in )?(size|capacity|match|fit))|\b(smallest|least|lowest) distance\b",
            0.7,
            "Of two rooms alike, the one further away was chosen. Ask for the nearest.",
            (
                "If a tie remains, choose the nearest.",
                "Settle what is still equal by the shortest walk.",
                "Last, prefer the lowest distance.",
            ),
        ),
        Rule(
            "id_only",
            r"\b(only|just|solely|nothing but)\b[^.;\n]{0,30}\b(ids?|identifier|name)\b"
            r"|\b(id|identifier|name)\b[^.;\n]{0,30}\b(only|alone|nothing else)\b|\bno (explanation|other words)\b",
            0.55,
            "The choice was wrapped in a sentence. Have the model give the id alone.",
            (
                "Answer with the id only.",
                "Your final message is just the room's id.",
                "Give the id and nothing else.",
            ),
        ),
    )
}

REQUIREMENTS: dict[str, Callable[[Room, Meeting], bool]] = {
    "free": lambda room, meeting: bool(room["free"]),
    "capacity": lambda room, meeting: bool(room["capacity"] >= meeting.attendees),
    "equipment": lambda room, meeting: meeting.needs <= set(room["equipment"]),
    "accessible": lambda room, meeting: bool(room["accessible"]) or not meeting.accessible_required,
}

PREFERENCES: dict[str, Callable[[Room, Meeting], int]] = {
    "tightest": lambda room, meeting: int(room["capacity"]),
    "extras": lambda room, meeting: len(set(room["equipment"]) - meeting.needs),
    "nearest": lambda room, meeting: int(room["distance_m"]),
}


def stated_rules(text: str) -> list[str]:
    """The names of the rules that a text states, in the order of the text."""
    text = re.sub(r"\{\w+\}", "x", text)
    # "If no room is free, ..." says what to do then, and does not ask for a free room.
    text = re.sub(r"\b(if|when) (no|none|nothing)\b[^,;.\n]*", "", text, flags=re.IGNORECASE)
    sentences = re.split(r"(?<=[.;!?])\s+|\n", text)
    found = (rule.name for sentence in sentences for rule in RULES.values() if rule.is_stated_in(sentence))
    return list(dict.fromkeys(found))


def choose(rooms: list[Room], meeting: Meeting, rules: Collection[str], toss: Callable[[str], float]) -> Room | None:
    """The room that the given rules lead to; what they leave open is decided by `toss` of the room's id."""
    suitable = [
        room for room in rooms if all(REQUIREMENTS[name](room, meeting) for name in REQUIREMENTS if name in rules)
    ]
    preferences = [cost for name, cost in PREFERENCES.items() if name in rules]
    return min(suitable, key=lambda room: (*(c(room, meeting) for c in preferences), toss(room["id"])), default=None)


def broken_rules(rooms: list[Room], meeting: Meeting, answer: str) -> list[str]:
    """The rules that an answer breaks, as a reader of the conversation can tell."""
    best = choose(rooms, meeting, RULES, lambda room_id: 0)
    named = [room for room in rooms if re.search(rf"\b{re.escape(room['id'])}\b", answer)]
    if len(named) != 1:
        return _broken_without_room(best, answer, bool(named))
    (room,) = named
    broken = [name for name, holds in REQUIREMENTS.items() if not holds(room, meeting)]
    if best is None:
        broken.append("no_room")
    elif not broken:
        broken += [name for name, cost in PREFERENCES.items() if cost(room, meeting) > cost(best, meeting)][:1]
    if answer.strip() != room["id"]:
        broken.append("id_only")
    return broken


def _broken_without_room(best: Room | None, answer: str, names_several: bool) -> list[str]:
    if names_several:
        return ["id_only"]
    if NO_ROOM not in answer or best is not None:
        return ["no_room"]
    return ["id_only"] if answer.strip() != NO_ROOM else []


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.IGNORECASE)
    return next(group for group in match.groups() if group is not None) if match else None
