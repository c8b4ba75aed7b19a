"""The client: workers that answer the questions of the server with the prompt that it sends along."""

import random
import sys

import openai
from agentlightning.litagent import LitAgent
from agentlightning.trainer import Trainer


class SimpleAgent(LitAgent):
    """Answers a question under the system prompt that is being tested."""

    def training_rollout(self, task, rollout_id, resources):
        """Execute a single training rollout."""
        openai.chat.completions.create(
            model="gpt-4o-mini",
            messages=[
                {"role": "system", "content": resources["system_prompt"].template},
                {"role": "user", "content": task["prompt"]},
            ],
        )
        return random.uniform(0, 1)  # put here how good the answer is


if __name__ == "__main__":
    backend = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9997"
    Trainer(n_workers=2).fit(SimpleAgent(), backend=backend)
