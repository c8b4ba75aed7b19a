"""Trains the room selector's prompt with APO: against a real API if OPENAI_API_KEY is set, else the offline model."""

import contextlib
import logging
import os
from collections.abc import Iterator

import agentlightning as agl
from offline_model import offline_model
from openai import AsyncOpenAI
from room_selector import prompt_template_baseline, room_selector
from rooms import load_tasks


def apo() -> agl.APO:
    """The algorithm, as small as shows what it does."""
    return agl.APO(
        AsyncOpenAI(),
        val_batch_size=10,
        gradient_batch_size=4,
        beam_width=2,
        branch_factor=2,
        beam_rounds=2,
    )


def train() -> None:
    """Tunes the prompt on 28 tasks, chooses on 29 others, and reports on 60 that were never looked at."""
    trainer = agl.Trainer(
        algorithm=apo(),
        n_runners=8,
        initial_resources={"prompt_template": prompt_template_baseline()},
        adapter=agl.TraceToMessages(),
    )
    trainer.fit(
        agent=room_selector,
        train_dataset=load_tasks("train"),
        val_dataset=load_tasks("validation"),
        test_dataset=load_tasks("test"),
    )


@contextlib.contextmanager
def language_model() -> Iterator[None]:
    """Makes sure that there is a model to talk to."""
    if os.environ.get("OPENAI_API_KEY"):
        yield
        return
    with offline_model() as base_url:
        print(f"No OPENAI_API_KEY: the models are a SIMULATION at {base_url}; its scores say nothing about real ones.")
        os.environ |= {"OPENAI_API_KEY": "offline", "OPENAI_BASE_URL": base_url}
        yield


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s [%(levelname)s] %(message)s")
    with language_model():
        train()
