"""Thirty lines to copy: a JSONL file of tasks, an agent that is a function, and a reward."""

import json
import random
from pathlib import Path
from typing import Any

import agentlightning as agl
from openai import AsyncOpenAI, OpenAI


def agent(task: dict[str, Any], prompt_template: agl.PromptTemplate) -> float:
    """Does one task with the prompt that is being tuned, and says how good the result is, from 0 to 1."""
    with OpenAI() as client:
        prompt = prompt_template.format(question=task["question"])
        response = client.chat.completions.create(model="gpt-4.1-nano", messages=[{"role": "user", "content": prompt}])
    return reward(response.choices[0].message.content or "", task["expected"])


def reward(answer: str, expected: str) -> float:
    """1 for the expected answer alone, 0.5 if it is among other words, else 0."""
    return 1.0 if answer.strip() == expected else 0.5 if expected in answer else 0.0


if __name__ == "__main__":
    tasks = [json.loads(line) for line in (Path(__file__).parent / "tasks.jsonl").read_text().splitlines()]
    random.Random(0).shuffle(tasks)
    third = len(tasks) // 3
    trainer = agl.Trainer(
        algorithm=agl.APO(AsyncOpenAI(), beam_width=2, branch_factor=2, beam_rounds=2, val_batch_size=4),
        n_runners=4,
        initial_resources={"prompt_template": "Answer this question: {question}"},
    )
    trainer.fit(agent, tasks[:third], val_dataset=tasks[third : 2 * third], test_dataset=tasks[2 * third :])
