"""What is counted is what was done: by our searches in a simulated lab, and by the port of the peer's."""

from typing import Any

import pytest
from agentlightning import PromptTemplate
from agentlightning.algorithm import BudgetSpent
from agentlightning_algorithms.lab import Lab
from apo.contestants import Job, ours
from apo.lab import NAME, SimulatedLab
from apo.models import Models
from apo.peer_port import DEFAULTS, PeerSettings, run_peer_port
from apo.referee import Referee
from apo.worlds import Cell, World


class TinySearch:
    """Tries the seed, has it criticised and edited once, and keeps whichever did better."""

    def __init__(self, lab: Lab, world: World) -> None:
        self._lab, self._world = lab, world
        self._found: dict[str, Any] = {"candidates": [], "curve": []}

    async def run(self) -> None:
        lab, world = self._lab, self._world
        seed = await self._keep("v0", world.seed_prompt)
        train = await lab.evaluate("train", seed, range(8), "train")
        record = str(await lab.traces(train))
        critique = await lab.ask("critique", "sim-critic", record)
        edited = await lab.ask("edit", "sim-editor", f"{world.seed_prompt}\n{critique}")
        child = await self._keep("v1", edited)
        await self._score("v0", seed)
        await self._score("v1", child)

    def summary(self) -> dict[str, Any]:
        return self._found

    async def _keep(self, version: str, text: str):
        self._found["candidates"].append({"version": version, "template": text})
        return await self._lab.add(version, {NAME: PromptTemplate(template=text)}, None)

    async def _score(self, version: str, resources) -> None:
        found = await self._lab.evaluate(f"val/{version}", resources, range(28), "val")
        score = sum(evaluation.score or 0 for evaluation in found) / 28
        if not self._found["curve"] or score > self._found["curve"][-1]["score"]:
            spent = 8 + 28 * (1 + (version == "v1"))
            self._found["curve"].append({"version": version, "score": score, "rollouts": spent})


def test_a_search_of_ours_is_counted_and_its_prompts_are_scored_in_truth() -> None:
    (result,) = ours("tiny", TinySearch).run([Job("tiny", 3, Cell(), 100)])
    assert result.rollouts == 64
    assert result.calls == {"sim-critic": 1, "sim-editor": 1}
    assert [point.rollouts for point in result.curve] == [0, 36, 64]
    assert result.curve[-1].score > result.seed


async def test_a_lab_does_each_task_of_a_step_once() -> None:
    referee = Referee(World(3))
    lab = SimulatedLab(referee)
    seed = await lab.add("v0", {NAME: PromptTemplate(template=referee.world.seed_prompt)}, None)
    first = await lab.evaluate("val", seed, [0, 1], "val")
    assert await lab.evaluate("val", seed, [1, 0, 2], "val") == [
        *first[::-1],
        *await lab.evaluate("val", seed, [2], "val"),
    ]
    assert referee.rollouts == 3


async def test_a_lab_starts_nothing_that_its_budget_cannot_pay() -> None:
    referee = Referee(World(3))
    lab = SimulatedLab(referee, rollouts=5)
    seed = await lab.add("v0", {NAME: PromptTemplate(template=referee.world.seed_prompt)}, None)
    with pytest.raises(BudgetSpent):
        await lab.evaluate("val", seed, range(6), "val")
    assert referee.rollouts == 0


@pytest.mark.parametrize(
    ("settings", "validation", "rollouts", "calls"),
    [(PeerSettings(), 28, 226, 16), (PeerSettings(), 29, 229, 16), (DEFAULTS, 29, 1220, 96)],
)
def test_the_port_spends_what_the_real_package_does(
    settings: PeerSettings, validation: int, rollouts: int, calls: int
) -> None:
    result = run_peer_port("port", Referee(World(3, Cell(val=validation))), 0, settings)
    assert (result.rollouts, sum(result.calls.values())) == (rollouts, calls)


@pytest.mark.parametrize("feedback", ["rich", "symptom", "score"])
def test_the_critic_learns_from_what_each_feedback_tells(feedback: Any) -> None:
    result = run_peer_port(
        "port", Referee(World(3, Cell(feedback=feedback)), 1200), 1200, PeerSettings(beam_rounds=None)
    )
    assert result.curve[-1].score > result.seed + 0.1


def test_the_models_answer_the_same_questions_the_same_way() -> None:
    world = World(6)
    text = f"{world.seed_prompt}\n" + " ".join(
        world.attempt(world.seed_prompt, task, 0).feedback for task in world.train
    )
    one, other = Models(world), Models(world)
    asked = ["sim-critic", "sim-reflect", "sim-critic"]
    assert [one.ask(model, text) for model in asked] == [other.ask(model, text) for model in asked]
    assert one.ask("sim-critic", text) != one.ask("sim-critic", f"{text} ")
