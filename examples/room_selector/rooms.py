"""The rooms, the tasks and the grader of the room selector: made-up data from a fixed seed.

Knows nothing of models, prompts or training.
"""

import random
import re
from collections.abc import Callable
from typing import Any, Literal, TypedDict

NO_ROOM = "No Room"


class Room(TypedDict):
    id: str
    capacity: int
    equipment: list[str]
    accessible: bool
    distance_m: int


class RoomStatus(Room):
    free: bool


class RoomsAndAvailability(TypedDict):
    rooms: list[RoomStatus]


class TaskInput(TypedDict):
    date: str
    time: str
    duration_min: int
    attendees: int
    needs: list[str]
    accessible_required: bool


class RoomSelectionTask(TypedDict):
    id: str
    task_input: TaskInput
    expected_choice: str


EQUIPMENT = ["projector", "whiteboard", "camera", "speakers"]

ROOMS: list[Room] = [
    {"id": "Alder", "capacity": 4, "equipment": ["whiteboard"], "accessible": True, "distance_m": 35},
    {"id": "Birch", "capacity": 4, "equipment": ["camera", "speakers"], "accessible": False, "distance_m": 10},
    {"id": "Cedar", "capacity": 6, "equipment": ["camera", "whiteboard"], "accessible": True, "distance_m": 60},
    {"id": "Hazel", "capacity": 6, "equipment": ["projector", "whiteboard"], "accessible": False, "distance_m": 20},
    {"id": "Linden", "capacity": 8, "equipment": ["projector", "speakers"], "accessible": True, "distance_m": 45},
    {"id": "Maple", "capacity": 8, "equipment": ["projector", "whiteboard"], "accessible": True, "distance_m": 15},
    {
        "id": "Rowan",
        "capacity": 8,
        "equipment": ["projector", "camera", "speakers"],
        "accessible": False,
        "distance_m": 5,
    },
    {"id": "Willow", "capacity": 14, "equipment": EQUIPMENT, "accessible": True, "distance_m": 90},
]

DATES = ["2026-03-02", "2026-03-03"]

BOOKINGS: dict[str, list[tuple[str, str, int]]] = {
    "Alder": [(DATES[0], "09:00", 60), (DATES[0], "14:00", 90), (DATES[1], "11:00", 60)],
    "Birch": [(DATES[0], "10:30", 60), (DATES[1], "09:30", 90), (DATES[1], "15:00", 60)],
    "Cedar": [(DATES[0], "09:30", 120), (DATES[1], "13:00", 120)],
    "Hazel": [(DATES[0], "13:00", 60), (DATES[1], "10:00", 60), (DATES[1], "16:00", 60)],
    "Linden": [(DATES[0], "11:00", 90), (DATES[0], "15:30", 60), (DATES[1], "14:30", 60)],
    "Maple": [(DATES[0], "10:00", 90), (DATES[0], "14:30", 60), (DATES[1], "09:00", 120)],
    "Rowan": [(DATES[0], "09:00", 90), (DATES[1], "12:00", 120)],
    "Willow": [(DATES[0], "10:00", 150), (DATES[1], "11:00", 120), (DATES[1], "15:00", 90)],
}

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_rooms_and_availability",
            "description": "Lists every meeting room and whether it is free at the given date and time.",
            "parameters": {
                "type": "object",
                "properties": {
                    "date": {"type": "string", "description": "YYYY-MM-DD"},
                    "time": {"type": "string", "description": "HH:MM, 24 hours"},
                    "duration_min": {"type": "integer", "description": "Length of the meeting in minutes"},
                },
                "required": ["date", "time", "duration_min"],
            },
        },
    }
]


def get_rooms_and_availability(date: str, time_str: str, duration_min: int) -> RoomsAndAvailability:
    """The tool: every room, and whether it is free from `time_str` up to, not including, the end."""
    return {"rooms": [{**room, "free": _is_free(room, date, time_str, duration_min)} for room in ROOMS]}


def best_room(task_input: TaskInput) -> str:
    """The rule: of the rooms that suit, the tightest fit, then the fewest extras, then the nearest; or `NO_ROOM`."""
    suitable = [room for room in ROOMS if suits(room, task_input)]
    return min(suitable, key=lambda room: cost(room, task_input))["id"] if suitable else NO_ROOM


def suits(room: Room, task_input: TaskInput) -> bool:
    """Whether the room is free, large enough, equipped with everything needed and, if required, accessible."""
    return (
        _is_free(room, task_input["date"], task_input["time"], task_input["duration_min"])
        and room["capacity"] >= task_input["attendees"]
        and set(room["equipment"]) >= set(task_input["needs"])
        and (room["accessible"] or not task_input["accessible_required"])
    )


def cost(room: Room, task_input: TaskInput) -> tuple[int, int, int]:
    """What orders the rooms that suit: spare seats, equipment nobody asked for, distance."""
    extras = set(room["equipment"]) - set(task_input["needs"])
    return room["capacity"] - task_input["attendees"], len(extras), room["distance_m"]


def grade(final_message: str | None, expected_choice: str) -> float:
    """1.0 for exactly the expected choice, 0.5 if it is the only choice that a longer answer names, else 0.0."""
    answer = (final_message or "").strip()
    if answer == expected_choice:
        return 1.0
    named = {choice for choice in [NO_ROOM, *(room["id"] for room in ROOMS)] if re.search(rf"\b{choice}\b", answer)}
    return 0.5 if named == {expected_choice} else 0.0


Split = Literal["train", "validation", "test"]

_SIZES: dict[Split, int] = {"train": 28, "validation": 29, "test": 60}
_NO_ROOM_SHARE = 0.3
_SEED = 28


def load_tasks(split: Split) -> list[RoomSelectionTask]:
    """The tasks of a split, the same ones every time; no two tasks of any splits have the same input."""
    return _generate()[split]


def _generate() -> dict[Split, list[RoomSelectionTask]]:
    # Of the generator's methods, only random() promises the same numbers in every version of Python.
    draw = random.Random(_SEED).random
    rooms = [room["id"] for room in ROOMS]
    seen: list[TaskInput] = []
    splits: dict[Split, list[RoomSelectionTask]] = {}
    for split, size in _SIZES.items():
        answers = [NO_ROOM] * round(size * _NO_ROOM_SHARE)
        answers += [rooms[i % len(rooms)] for i in range(size - len(answers))]
        splits[split] = []
        for number, answer in enumerate(sorted(answers, key=lambda _: draw()), start=1):
            task_input = _draw_input(draw, answer, seen)
            seen.append(task_input)
            splits[split].append({"id": f"{split}-{number:02}", "task_input": task_input, "expected_choice": answer})
    return splits


def _draw_input(draw: Callable[[], float], answer: str, seen: list[TaskInput]) -> TaskInput:
    """An input not seen before whose best room is `answer`."""
    while True:
        start = 9 * 60 + 30 * int(draw() * 16)
        task_input: TaskInput = {
            "date": DATES[int(draw() * len(DATES))],
            "time": f"{start // 60:02}:{start % 60:02}",
            "duration_min": [30, 45, 60, 90][int(draw() * 4)],
            "attendees": 2 + int(draw() * 11),
            "needs": [item for item in EQUIPMENT if draw() < 0.35],
            "accessible_required": draw() < 0.6,
        }
        if best_room(task_input) == answer and task_input not in seen:
            return task_input


def _is_free(room: Room, date: str, time_str: str, duration_min: int) -> bool:
    start = _minutes(time_str)
    return all(
        start + duration_min <= _minutes(booked_time) or start >= _minutes(booked_time) + booked_min
        for booked_date, booked_time, booked_min in BOOKINGS[room["id"]]
        if booked_date == date
    )


def _minutes(time_str: str) -> int:
    hours, minutes = time_str.split(":")
    return int(hours) * 60 + int(minutes)
