"""Our searches on a simulated lab, with the prompt files that users get and one configuration for all cells."""

from agentlightning import PromptTemplate
from agentlightning_algorithms.apo.beam import BeamSearch
from agentlightning_algorithms.apo.optimizer import Optimizer
from agentlightning_algorithms.apo.prompts import critics, editors
from agentlightning_algorithms.apo.race import RaceSearch
from agentlightning_algorithms.apo.race_settings import RaceSettings
from agentlightning_algorithms.apo.settings import Settings
from agentlightning_algorithms.lab import Lab
from apo.lab import NAME
from apo.worlds import World

_ENDLESS = 1000
"""Rounds: the budget ends the search."""


def race(lab: Lab, world: World) -> RaceSearch:
    """`APO(selection="race")` as it is by default."""
    return RaceSearch(
        settings=RaceSettings(gradient_model="sim-critic", apply_edit_model="sim-editor"),
        critics=critics(None),
        editors=editors(None, "editor_rewrite.txt"),
        lab=lab,
        initial={NAME: PromptTemplate(template=world.seed_prompt)},
        train=[task.text for task in world.train],
        val=[task.text for task in world.val],
    )


def full(lab: Lab, world: World) -> BeamSearch:
    """`APO()` at the settings of the tutorial, and as many rounds as the budget pays for."""
    settings = Settings(
        gradient_model="sim-critic",
        apply_edit_model="sim-editor",
        diversity_temperature=1.0,
        gradient_batch_size=4,
        val_batch_size=10,
        beam_width=2,
        branch_factor=2,
        beam_rounds=_ENDLESS,
        rollout_batch_timeout=3600.0,
        run_initial_validation=True,
        gradient_prompt_files=None,
        apply_edit_prompt_files=None,
        seed=0,
    )
    seed_prompt = PromptTemplate(template=world.seed_prompt)
    return BeamSearch(
        settings=settings,
        optimizer=Optimizer(lab, settings, critics(None), editors(None)),
        lab=lab,
        initial={NAME: seed_prompt},
        name=NAME,
        original=seed_prompt,
        train=[task.text for task in world.train],
        val=[task.text for task in world.val],
        notify=lambda *_: None,
        on_better=_nothing,
    )


async def _nothing() -> None:
    pass
