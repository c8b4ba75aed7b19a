"""APO through a store and runners, with our package or the peer's: a job on standard input, a result on the last line.

The job is a JSON object with `base_url`, `seed_prompt`, `train`, `val`, `runners`, `seed` and `settings`.
"""

import json
import random
import re
import sys
import time
from functools import cache
from typing import Any

import agentlightning as agl
from openai import AsyncOpenAI, OpenAI

JOB: dict[str, Any] = json.loads(sys.stdin.readline()) if __name__ == "__main__" else {}


@cache
def client() -> OpenAI:
    """Of this process."""
    return OpenAI(base_url=JOB["base_url"], api_key="none", max_retries=2, timeout=60)


def ask(model: str, message: str) -> str:
    """What a model answers."""
    said = client().chat.completions.create(model=model, messages=[{"role": "user", "content": message}])
    return said.choices[0].message.content or ""


@agl.rollout
def front_desk(task: str, prompt_template: agl.PromptTemplate) -> float:
    """Answer a request and have the answer judged."""
    answer = ask("sim-task", prompt_template.format(request=task))
    found = re.search(r"SCORE ([\d.]+)", ask("sim-judge", f"Judge this answer.\n{task}\n{answer}"))
    return float(found[1]) if found else 0.0


def main() -> None:
    """Tune the prompt; say which is the best, how good it is believed to be, and how long it took."""
    random.seed(JOB["seed"])
    algorithm = agl.APO(
        AsyncOpenAI(base_url=JOB["base_url"], api_key="none"),
        gradient_model="sim-critic",
        apply_edit_model="sim-editor",
        **JOB["settings"],
    )
    seed = agl.PromptTemplate(template=JOB["seed_prompt"], engine="f-string")
    trainer = agl.Trainer(
        algorithm=algorithm,
        n_runners=JOB["runners"],
        initial_resources={"prompt_template": seed},
        adapter=agl.TraceToMessages(),
    )
    began = time.perf_counter()
    trainer.fit(agent=front_desk, train_dataset=JOB["train"], val_dataset=JOB["val"])
    seconds = time.perf_counter() - began
    told = algorithm.summary()["best_score"] if hasattr(algorithm, "summary") else algorithm._history_best_score
    print(json.dumps({"prompt": algorithm.get_best_prompt().template, "score": told, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
