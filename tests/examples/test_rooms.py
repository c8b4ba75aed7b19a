import hashlib
import json
from collections import Counter
from itertools import combinations, pairwise

import pytest
from rooms import (
    NO_ROOM,
    ROOMS,
    RoomSelectionTask,
    Split,
    best_room,
    cost,
    get_rooms_and_availability,
    grade,
    load_tasks,
    suits,
)

SPLITS: dict[Split, int] = {"train": 28, "validation": 29, "test": 60}
TASKS = [task for split in SPLITS for task in load_tasks(split)]


@pytest.mark.parametrize(("split", "size"), SPLITS.items())
def test_a_split_has_its_size(split: Split, size: int) -> None:
    assert len(load_tasks(split)) == size


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_expects_every_room_and_no_room_in_about_three_of_ten_tasks(split: Split) -> None:
    answers = Counter(task["expected_choice"] for task in load_tasks(split))
    assert set(answers) == {NO_ROOM, *(room["id"] for room in ROOMS)}
    assert 0.25 <= answers[NO_ROOM] / answers.total() <= 1 / 3


def test_no_two_tasks_have_the_same_input_or_id() -> None:
    assert all(a["task_input"] != b["task_input"] and a["id"] != b["id"] for a, b in combinations(TASKS, 2))


def test_every_machine_and_version_of_python_generates_the_same_tasks() -> None:
    assert load_tasks("train")[0] == {
        "id": "train-01",
        "task_input": {
            "date": "2026-03-03",
            "time": "12:30",
            "duration_min": 90,
            "attendees": 6,
            "needs": ["projector"],
            "accessible_required": False,
        },
        "expected_choice": "Hazel",
    }
    digest = hashlib.sha256(json.dumps(TASKS).encode()).hexdigest()
    assert digest == "c6100684ad24960ac5299612c4c0df854c74e7588570b80702c6d24e17ec81cc"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["id"])
def test_the_expected_room_suits_and_no_room_that_suits_is_better(task: RoomSelectionTask) -> None:
    suitable = {room["id"]: room for room in ROOMS if suits(room, task["task_input"])}
    if task["expected_choice"] == NO_ROOM:
        assert not suitable
    else:
        expected = cost(suitable.pop(task["expected_choice"]), task["task_input"])
        assert all(expected < cost(room, task["task_input"]) for room in suitable.values())


def test_some_task_turns_on_each_part_of_the_cost() -> None:
    deciding = set()
    for task in TASKS:
        costs = sorted(cost(room, task["task_input"]) for room in ROOMS if suits(room, task["task_input"]))
        deciding |= {next(i for i in range(3) if a[i] != b[i]) for a, b in pairwise(costs[:2])}
    assert deciding == {0, 1, 2}


@pytest.mark.parametrize(
    ("time", "duration_min", "free"),
    [("08:30", 30, True), ("08:30", 31, False), ("09:59", 30, False), ("10:00", 30, True), ("08:00", 600, False)],
)
def test_a_room_is_free_up_to_a_booking_and_from_its_end(time: str, duration_min: int, free: bool) -> None:
    rooms = get_rooms_and_availability("2026-03-02", time, duration_min)["rooms"]
    assert {room["id"]: room["free"] for room in rooms}["Alder"] is free


def test_a_booking_on_another_day_does_not_matter() -> None:
    assert all(room["free"] for room in get_rooms_and_availability("2026-03-04", "09:00", 480)["rooms"])


def test_the_best_room_of_a_small_meeting_is_the_nearest_of_the_smallest_with_what_it_needs() -> None:
    task_input = TASKS[0]["task_input"] | {"date": "2026-03-04", "attendees": 7, "accessible_required": False}
    assert best_room(task_input | {"needs": ["projector"]}) == "Maple"
    assert best_room(task_input | {"needs": ["projector", "speakers"]}) == "Linden"
    assert best_room(task_input | {"needs": ["camera"]}) == "Rowan"


@pytest.mark.parametrize(
    ("message", "expected", "score"),
    [
        ("Maple", "Maple", 1.0),
        (" Maple\n", "Maple", 1.0),
        ("No Room", "No Room", 1.0),
        ("I suggest Maple.", "Maple", 0.5),
        ("Not Cedar but Maple.", "Maple", 0.0),
        ("Cedar", "Maple", 0.0),
        ("Nothing suits.", "No Room", 0.0),
        ("", "Maple", 0.0),
        (None, "Maple", 0.0),
    ],
)
def test_an_answer_is_graded_by_the_choice_it_names(message: str | None, expected: str, score: float) -> None:
    assert grade(message, expected) == score
