"""Automatic prompt optimization as its users meet it: parameters, needs and results. Knows no step of the search."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal

from agentlightning import Algorithm, AlgorithmError, Dataset, NamedResources, PromptTemplate, ResourcesUpdate
from agentlightning.algorithm import Answer, Estimate, Journal
from agentlightning.types import tasks_of
from typing_extensions import TypeVar

from agentlightning_algorithms.apo.beam import BeamSearch
from agentlightning_algorithms.apo.contender import Contender
from agentlightning_algorithms.apo.optimizer import Optimizer
from agentlightning_algorithms.apo.prompts import critics, editors
from agentlightning_algorithms.apo.race import RaceSearch
from agentlightning_algorithms.apo.race_settings import RaceSettings
from agentlightning_algorithms.apo.settings import Settings
from agentlightning_algorithms.lab import Lab

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T", default=Any)

Selection = Literal["full", "race"]
"""How prompts are chosen."""

_log = logging.getLogger("agentlightning.algorithm.apo")


class APO(Algorithm, Generic[T]):
    """Improves a prompt template by criticising what it leads to, editing it, and keeping what does best.

    With `selection="full"`, the method is "Automatic Prompt Optimization with 'Gradient Descent' and Beam Search"
    (Pryzant et al., 2023, arXiv 2305.03495, section 2). Each round, every prompt of the beam is tried on train batches;
    the critic names what is wrong with it (the "gradient"), the editor applies that, and old and new prompts compete
    on one validation batch. The best of them is then tried on the whole validation set, and the best ever found there
    is the result. The template tuned is the first `PromptTemplate` among the initial resources.

    With `selection="race"`, a round criticises the best prompt on a few train tasks. Its edits must do better than it
    on the same tasks; those that do are compared with it on the same validation tasks, a few at a time, until it is
    clear which is better. In the end the last few prompts and the first one meet on as many validation tasks as the
    rollouts that were held back pay for. A run ends with its budget of rollouts, and without one after four times as
    many as there are tasks, at most 1000. Several templates can be tuned together.

    An edit must keep its placeholders; one that does not is sent back once and then dropped, before any rollout is
    spent on it. With the same seed, agent and answers of the models, two runs do the same, however their rollouts are
    timed.

    Args:
        async_openai_client: The client that critic and editor are asked through. None: `AsyncOpenAI()`, which goes by
            `OPENAI_API_KEY`.
        gradient_model: The critic's model.
        apply_edit_model: The editor's model.
        diversity_temperature: The sampling temperature of both.
        gradient_batch_size: Train tasks per critique ("full"; 4).
        val_batch_size: Validation tasks that candidates compete on in a round ("full"; 16).
        beam_width: Prompts kept from round to round ("full"; 4).
        branch_factor: Edits tried on each of them in a round ("full"; 4).
        beam_rounds: Rounds ("full"; 3).
        rollout_batch_timeout: Seconds that a batch of rollouts may take. A rollout that has started and has not ended
            by then counts 0, since it is the prompt's agent that hangs; one that no runner took is left out.
        run_initial_validation: Whether to try the initial prompt on the whole validation set first ("full"; yes).
        gradient_prompt_files: The critic's instructions, one of them chosen per branch: text files with
            `$prompt_template` and `$rollouts` in them. None: ours.
        apply_edit_prompt_files: The editor's instructions, with `$prompt_template` and `$critique`. None: ours;
            "race" uses the one of them that takes up a whole critique.
        seed: Of all random choices.
        selection: How prompts are chosen: "full" tries each on a batch, the best of a round on all validation tasks;
            "race" compares each with the best so far, task by task, only until it is clear which is better.
        minibatch_size: Train tasks that a prompt is criticised on, and its edits must do better on ("race"; 4).
        block_size: Validation tasks that a race goes on by ("race"; 6).
        blocks: After how many blocks a race ends at the latest, at the beginning and at the end of a run ("race").
        proposals: Edits tried in a round ("race"; 2, and more while nothing gets better).
        z: By how many standard errors an edit must be better to be accepted before the end of a race, at the beginning
            and at the end of a run ("race"; 1 and 2).
        finals_share: The share of the rollouts held back to compare the last prompts and the first one ("race"; 0.15).
        perfect_score: What a rollout earns that nothing is wrong with ("race"; 1).
        components: Which prompt templates are tuned ("race"): "round_robin", all of the initial resources, one a round;
            "all", all of them in each edit; or the names of some, one a round.
        max_prompt_chars: The greatest length of an edited template ("race"; 20000).
        leaks: Whether an edit with eight words in a row of a task in it is only warned of, "warn", or refused, "drop"
            ("race").

    Raises:
        ValueError: When a parameter cannot be what it is or has no effect, or a prompt file cannot be used.

    Example:
        >>> import agentlightning as agl
        >>> from openai import AsyncOpenAI
        >>> apo = agl.APO(AsyncOpenAI(api_key="any"), val_batch_size=10, beam_width=2, branch_factor=2, beam_rounds=2)
        >>> apo.estimate(train_size=28, val_size=29)
        Estimate(rollouts=229, optimizer_calls=16)
        >>> trainer = agl.Trainer(algorithm=apo, initial_resources={"prompt_template": "Answer this: {question}"})
    """

    is_durable = True

    def __init__(
        self,
        async_openai_client: "AsyncOpenAI | None" = None,
        *,
        gradient_model: str = "gpt-5-mini",
        apply_edit_model: str = "gpt-4.1-mini",
        diversity_temperature: float = 1.0,
        gradient_batch_size: int | None = None,
        val_batch_size: int | None = None,
        beam_width: int | None = None,
        branch_factor: int | None = None,
        beam_rounds: int | None = None,
        rollout_batch_timeout: float = 3600.0,
        run_initial_validation: bool | None = None,
        gradient_prompt_files: Sequence[str | Path] | None = None,
        apply_edit_prompt_files: Sequence[str | Path] | None = None,
        seed: int = 0,
        selection: Selection = "full",
        minibatch_size: int | None = None,
        block_size: int | None = None,
        blocks: tuple[int, int] | None = None,
        proposals: int | None = None,
        z: tuple[float, float] | None = None,
        finals_share: float | None = None,
        perfect_score: float | None = None,
        components: Literal["round_robin", "all"] | Sequence[str] | None = None,
        max_prompt_chars: int | None = None,
        leaks: Literal["warn", "drop"] | None = None,
    ) -> None:
        self._client = async_openai_client or _default_client()
        self._critics = critics(gradient_prompt_files)
        # In a race every edit has to prove itself, so that it may take up all of a critique at once.
        styles = "editor_rewrite.txt" if selection == "race" else "editor_*.txt"
        self._editors = editors(apply_edit_prompt_files, styles)
        both = dict(
            gradient_model=gradient_model,
            apply_edit_model=apply_edit_model,
            diversity_temperature=diversity_temperature,
            rollout_batch_timeout=rollout_batch_timeout,
            gradient_prompt_files=[critic.name for critic in self._critics],
            apply_edit_prompt_files=[editor.name for editor in self._editors],
            seed=seed,
        )
        full = dict(
            gradient_batch_size=gradient_batch_size,
            val_batch_size=val_batch_size,
            beam_width=beam_width,
            branch_factor=branch_factor,
            beam_rounds=beam_rounds,
            run_initial_validation=run_initial_validation,
        )
        race = dict(
            minibatch_size=minibatch_size,
            block_size=block_size,
            blocks=blocks,
            proposals=proposals,
            z=z,
            finals_share=finals_share,
            perfect_score=perfect_score,
            components=components,
            max_prompt_chars=max_prompt_chars,
            leaks=leaks,
        )
        self._settings = _settings(selection, both, {"full": full, "race": race})
        self._search: BeamSearch | RaceSearch | None = None
        self._journal: Journal | None = None

    def estimate(self, train_size: int, val_size: int) -> Estimate:
        """What a run will cost when no branch is dropped and no edit sent back; a race at most, without a budget."""
        return self._settings.estimate(train_size, val_size)

    def settings(self) -> dict[str, Any]:
        """All that was chosen, JSON-able."""
        return asdict(self._settings)

    def cheapest(self, train_size: int, val_size: int) -> Estimate:
        """The least that can improve a prompt."""
        return self._settings.cheapest(train_size, val_size)

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
        train, val = _tasks("train_dataset", train_dataset), _tasks("val_dataset", val_dataset)
        initial = self.get_initial_resources() or {}
        _tuned(initial, self._settings)
        self._journal = journal = await self._open_journal(train, val)
        if isinstance(self._settings, RaceSettings):
            self._search = self._race(self._settings, journal, initial, train, val)
        else:
            self._search = self._beam(self._settings, journal, initial, train, val)
        await self._search.run()

    def get_best_prompt(self) -> PromptTemplate:
        """The best prompt found so far; of several that are tuned, the first.

        Raises:
            AlgorithmError: When there is none yet.
        """
        best = self._best()
        if best is None:
            raise AlgorithmError(
                "No best prompt found: none has been tried on the validation set yet; run the algorithm"
            )
        return _tuned(best.resources, self._settings)[1]

    def get_best_resources(self) -> NamedResources | None:
        """The best prompt so far, with the resources that go with it. None: there is none yet."""
        best = self._best()
        return best.resources if best else None

    def summary(self) -> dict[str, Any]:
        """Scores, counts, settings, every candidate and every round so far; empty before the run."""
        if self._search is None or self._journal is None:
            return {}
        told = {model: asdict(used) for model, used in self._journal.usage.items()}
        return self._search.summary() | {"optimizer_tokens": told, "decisions": self._journal.ledger.decisions}

    def _race(
        self, settings: RaceSettings, lab: Lab, initial: NamedResources, train: list[T], val: list[T]
    ) -> RaceSearch:
        return RaceSearch(
            settings=settings,
            critics=self._critics,
            editors=self._editors,
            lab=lab,
            initial=initial,
            train=train,
            val=val,
            notify=self.notify,
            on_better=self._save,
        )

    def _beam(
        self, settings: Settings, journal: Journal, initial: NamedResources, train: list[T], val: list[T]
    ) -> BeamSearch:
        name, original = _tuned(initial, settings)
        _log.info("Tuning %r, whose placeholders are %s", name, sorted(original.placeholders) or "none")
        search = BeamSearch(
            settings=settings,
            optimizer=Optimizer(journal, settings, self._critics, self._editors),
            lab=journal,
            initial=initial,
            name=name,
            original=original,
            train=train,
            val=val,
            notify=self.notify,
            on_better=self._save,
        )
        journal.on_done = search.count
        return search

    async def _open_journal(self, train: list[T], val: list[T]) -> Journal:
        adapter = self.get_adapter()
        return Journal(
            await self.open_ledger(),
            {"train": train, "val": val},
            adapter=adapter,
            ask_model=self._ask,
            seed=self._settings.seed,
            timeout_seconds=self._settings.rollout_batch_timeout,
        )

    async def _ask(self, model: str, message: str) -> Answer:
        completion = await self._client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": message}],
            temperature=self._settings.diversity_temperature,
        )
        return Answer.of_completion(completion)

    def _best(self) -> ResourcesUpdate | None:
        if self._search is None or self._search.best is None:
            return None
        best = self._search.best
        return best.resources if isinstance(best, Contender) else best[0].resources

    async def _save(self) -> None:
        run, best = self.get_run(), self._best()
        if run is not None and best is not None:
            await self.get_store().update_run(run.run_id, best_resources=best, summary=self.summary())


def _default_client() -> "AsyncOpenAI":
    from openai import AsyncOpenAI

    return AsyncOpenAI()


def _settings(
    selection: Selection, both: Mapping[str, Any], special: Mapping[Selection, Mapping[str, Any]]
) -> Settings | RaceSettings:
    """The settings of the selection; a parameter of the other one is refused."""
    if selection not in special:
        raise ValueError(f"selection must be 'full' or 'race', not {selection!r}")
    for other, parameters in special.items():
        if idle := [name for name, value in parameters.items() if value is not None and other != selection]:
            raise ValueError(
                f"{', '.join(idle)} has no effect with selection={selection!r}: leave it out, or use {other!r}"
            )
    given = {name: value for name, value in special[selection].items() if value is not None}
    return RaceSettings(**both, **given) if selection == "race" else Settings(**both, **given)


def _tuned(resources: NamedResources, settings: Settings | RaceSettings) -> tuple[str, PromptTemplate]:
    named = settings.components if isinstance(settings, RaceSettings) and settings.components else "all"
    for name, resource in resources.items():
        if isinstance(resource, PromptTemplate) and (isinstance(named, str) or name in named):
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
