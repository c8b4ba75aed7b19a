"""Automatic prompt optimization as its users meet it: parameters, needs and results. Knows no step of the search."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from agentlightning import Algorithm, AlgorithmError, Dataset, NamedResources, PromptTemplate
from agentlightning.algorithm import Estimate
from agentlightning.types import tasks_of
from typing_extensions import TypeVar

from agentlightning_algorithms.apo.beam import BeamSearch
from agentlightning_algorithms.apo.optimizer import Optimizer
from agentlightning_algorithms.apo.prompts import critics, editors
from agentlightning_algorithms.apo.settings import Settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T", default=Any)

_log = logging.getLogger("agentlightning.algorithm.apo")


class APO(Algorithm, Generic[T]):
    """Improves a prompt template by criticising what it leads to, editing it, and keeping what does best.

    The method is "Automatic Prompt Optimization with 'Gradient Descent' and Beam Search" (Pryzant et al., 2023, arXiv
    2305.03495, section 2). Each round, every prompt of the beam is tried on train batches; the critic names what is
    wrong with it (the "gradient"), the editor applies that, and old and new prompts compete on one validation batch.
    The best of them is then tried on the whole validation set, and the best ever found there is the result.

    The template tuned is the first `PromptTemplate` among the initial resources. An edit must keep its placeholders;
    one that does not is sent back once and then dropped, before any rollout is spent on it. With the same seed, agent
    and answers of the models, two runs do the same, however their rollouts are timed.

    Args:
        async_openai_client: The client that critic and editor are asked through. None: `AsyncOpenAI()`, which goes by
            `OPENAI_API_KEY`.
        gradient_model: The critic's model.
        apply_edit_model: The editor's model.
        diversity_temperature: The sampling temperature of both.
        gradient_batch_size: Train tasks per critique.
        val_batch_size: Validation tasks that candidates compete on in a round.
        beam_width: Prompts kept from round to round.
        branch_factor: Edits tried on each of them in a round.
        beam_rounds: Rounds.
        rollout_batch_timeout: Seconds that a batch of rollouts may take. A rollout that has started and has not ended
            by then counts 0, since it is the prompt's agent that hangs; one that no runner took is left out.
        run_initial_validation: Whether to try the initial prompt on the whole validation set first.
        gradient_prompt_files: The critic's instructions, one of them chosen per branch: text files with
            `$prompt_template` and `$rollouts` in them. None: ours.
        apply_edit_prompt_files: The editor's instructions, with `$prompt_template` and `$critique`. None: ours.
        seed: Of all random choices.

    Raises:
        ValueError: When a parameter cannot be what it is, or a prompt file cannot be used.

    Example:
        >>> import agentlightning as agl
        >>> from openai import AsyncOpenAI
        >>> apo = agl.APO(AsyncOpenAI(api_key="any"), val_batch_size=10, beam_width=2, branch_factor=2, beam_rounds=2)
        >>> apo.estimate(train_size=28, val_size=29)
        Estimate(rollouts=229, optimizer_calls=16)
        >>> trainer = agl.Trainer(algorithm=apo, initial_resources={"prompt_template": "Answer this: {question}"})
    """

    def __init__(
        self,
        async_openai_client: "AsyncOpenAI | None" = None,
        *,
        gradient_model: str = "gpt-5-mini",
        apply_edit_model: str = "gpt-4.1-mini",
        diversity_temperature: float = 1.0,
        gradient_batch_size: int = 4,
        val_batch_size: int = 16,
        beam_width: int = 4,
        branch_factor: int = 4,
        beam_rounds: int = 3,
        rollout_batch_timeout: float = 3600.0,
        run_initial_validation: bool = True,
        gradient_prompt_files: Sequence[str | Path] | None = None,
        apply_edit_prompt_files: Sequence[str | Path] | None = None,
        seed: int = 0,
    ) -> None:
        self._client = async_openai_client or _default_client()
        self._critics = critics(gradient_prompt_files)
        self._editors = editors(apply_edit_prompt_files)
        self._settings = Settings(
            gradient_model=gradient_model,
            apply_edit_model=apply_edit_model,
            diversity_temperature=diversity_temperature,
            gradient_batch_size=gradient_batch_size,
            val_batch_size=val_batch_size,
            beam_width=beam_width,
            branch_factor=branch_factor,
            beam_rounds=beam_rounds,
            rollout_batch_timeout=rollout_batch_timeout,
            run_initial_validation=run_initial_validation,
            gradient_prompt_files=[critic.name for critic in self._critics],
            apply_edit_prompt_files=[editor.name for editor in self._editors],
            seed=seed,
        )
        self._search: BeamSearch | None = None

    def estimate(self, train_size: int, val_size: int) -> Estimate:
        """What a run will cost when no branch is dropped and no edit sent back."""
        return self._settings.estimate(train_size, val_size)

    async def run(self, train_dataset: Dataset[T] | None = None, val_dataset: Dataset[T] | None = None) -> None:
        """Search for a better prompt.

        Args:
            train_dataset: The tasks that prompts are criticised on.
            val_dataset: The tasks that prompts are chosen by.

        Raises:
            AlgorithmError: When something that it needs is missing, before anything is spent; when rollouts have no
                rewards or no traces; when the models do not answer.
            PromptTemplateError: When the initial template is not well-formed.
        """
        initial = self.get_initial_resources() or {}
        name, original = _tuned(initial)
        _log.info("Tuning %r, whose placeholders are %s", name, sorted(original.placeholders) or "none")
        self._search = BeamSearch(
            settings=self._settings,
            optimizer=Optimizer(self._client, self._settings, self._critics, self._editors),
            store=self.get_store(),
            adapter=self.get_adapter(),
            initial=initial,
            name=name,
            original=original,
            train=_tasks("train_dataset", train_dataset),
            val=_tasks("val_dataset", val_dataset),
            notify=self.notify,
            on_better=self._save,
        )
        await self._search.run()

    def get_best_prompt(self) -> PromptTemplate:
        """The best prompt found so far.

        Raises:
            AlgorithmError: When there is none yet.
        """
        if self._search is None or self._search.best is None:
            raise AlgorithmError(
                "No best prompt found: none has been tried on the validation set yet; run the algorithm"
            )
        return self._search.best[0].template

    def get_best_resources(self) -> NamedResources | None:
        """The best prompt so far, with the resources that go with it. None: there is none yet."""
        if self._search is None or self._search.best is None:
            return None
        return self._search.best[0].resources.resources

    def summary(self) -> dict[str, Any]:
        """Scores, counts, settings, every candidate and every round so far; empty before the run."""
        return self._search.summary() if self._search else {}

    async def _save(self) -> None:
        run = self.get_run()
        if run is not None and self._search is not None and self._search.best is not None:
            best = self._search.best[0].resources
            await self.get_store().update_run(run.run_id, best_resources=best, summary=self.summary())


def _default_client() -> "AsyncOpenAI":
    from openai import AsyncOpenAI

    return AsyncOpenAI()


def _tuned(resources: NamedResources) -> tuple[str, PromptTemplate]:
    for name, resource in resources.items():
        if isinstance(resource, PromptTemplate):
            return name, resource
    raise AlgorithmError(
        f"APO tunes a PromptTemplate, but the initial resources have none, only {sorted(resources) or 'nothing'}: "
        'give one to Trainer(initial_resources={"prompt_template": PromptTemplate(...)})'
    )


def _tasks(name: str, dataset: Dataset[T] | None) -> list[T]:
    if dataset is None or len(dataset) == 0:
        what = "missing" if dataset is None else "empty"
        raise AlgorithmError(f"APO needs a {name}, but it is {what}: give some tasks to Trainer.fit({name}=...)")
    return tasks_of(dataset)
