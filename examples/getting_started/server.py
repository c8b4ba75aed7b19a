"""The server: tries one system prompt after the other on the workers that connect, and says which is best."""

import asyncio
import sys

from agentlightning.server import AgentLightningServer
from agentlightning.types import PromptTemplate

PROMPTS = ["You are a helpful assistant.", "You are a knowledgeable AI.", "You are a friendly chatbot."]


async def prompt_optimization(port: int) -> None:
    """Test each prompt on one task."""
    server = AgentLightningServer(host="127.0.0.1", port=port)
    await server.start()
    prompt_and_rewards: list[tuple[str, float]] = []
    for prompt in PROMPTS:
        print(f"[Algo] Testing prompt: '{prompt}'")
        await server.update_resources({"system_prompt": PromptTemplate(template=prompt, engine="f-string")})
        task_id = await server.queue_task(sample={"prompt": "What is the capital of France?"}, mode="train")
        print(f"[Algo] Task '{task_id}' is now available for clients.", flush=True)
        rollout = await server.poll_completed_rollout(task_id, timeout=60)
        if rollout is None:
            print("[Algo] No client took it within a minute: is client.py running?")
        elif rollout.final_reward is None:
            print(f"[Algo] It has no reward: {rollout.failure or rollout.status}")
        else:
            print(f"[Algo] Received reward: {rollout.final_reward:.3f}")
            prompt_and_rewards.append((prompt, rollout.final_reward))
    if prompt_and_rewards:
        best, reward = max(prompt_and_rewards, key=lambda tried: tried[1])
        print(f"[Algo] Best prompt: '{best}' (reward: {reward:.3f})")
    await server.stop()


if __name__ == "__main__":
    asyncio.run(prompt_optimization(int(sys.argv[1]) if len(sys.argv) > 1 else 9997))
