"""Trains the room selector's prompt with an agent in any language: its runner is the command that follows.

    python train_runner.py ../go_runner/bin/rooms

Such an agent has no `rooms.py`, so each task brings what the tool answers for it, as `rooms`.
"""

import logging
import sys
from typing import Any

import agentlightning as agl
from room_selector import prompt_template_baseline
from room_selector_apo import apo, language_model
from rooms import Split, get_rooms_and_availability, load_tasks


def train(command: list[str]) -> None:
    """Tunes the prompt as `room_selector_apo.py` does, with runners that are one process of this command."""
    trainer = agl.Trainer(
        algorithm=apo(),
        strategy=agl.RunnerCommand(command),
        max_concurrency=8,
        initial_resources={"prompt_template": prompt_template_baseline()},
        adapter=agl.TraceToMessages(),
    )
    trainer.fit(
        train_dataset=tasks("train"),
        val_dataset=tasks("validation"),
        test_dataset=tasks("test"),
    )


def tasks(split: Split) -> list[dict[str, Any]]:
    """The tasks of a split, each with all that its agent needs to know."""
    return [dict(task) | {"rooms": answer_of_tool(**task["task_input"])} for task in load_tasks(split)]


def answer_of_tool(date: str, time: str, duration_min: int, **_: Any) -> Any:
    """What the tool answers about the time of a task."""
    return get_rooms_and_availability(date, time, duration_min)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s [%(levelname)s] %(message)s")
    if len(sys.argv) < 2:
        sys.exit(f"usage: python {sys.argv[0]} COMMAND [ARG ...], a runner of the room selector")
    try:
        with language_model():
            train(sys.argv[1:])
    except agl.AgentLightningError as error:
        sys.exit(f"{type(error).__name__}: {error}")
