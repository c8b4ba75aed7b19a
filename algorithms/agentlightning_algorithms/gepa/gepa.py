"""Reflective prompt evolution as its users meet it: parameters, needs and results. Knows no step of the search."""

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from agentlightning import Algorithm, AlgorithmError, Dataset, NamedResources, PromptTemplate, RolloutMode
from agentlightning.algorithm import Estimate, Journal
from agentlightning.types import tasks_of

from agentlightning_algorithms.gepa.model import Model
from agentlightning_algorithms.gepa.record import Record
from agentlightning_algorithms.gepa.trials import Trials

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from agentlightning_algorithms.gepa.search import Search

_log = logging.getLogger("agentlightning.algorithm.gepa")

CandidateSelection = Literal["pareto", "current_best", "epsilon_greedy", "top_k_pareto"]

_OURS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("seed_candidate", "trainset", "valset"), "comes from the Trainer"),
    **dict.fromkeys(("adapter", "task_lm", "evaluator"), "is our runners"),
    **dict.fromkeys(
        ("reflection_lm", "reflection_lm_kwargs", "reflection_strategy", "custom_candidate_proposer"),
        "is reflection_client and reflection_model",
    ),
    "candidate_selection_strategy": "is candidate_selection",
    "reflection_minibatch_size": "is minibatch_size",
    "batch_sampler": "is chosen by minibatch_size",
    "max_metric_calls": "is max_rollouts",
    "max_reflection_cost": "is not known to gepa when the client is yours",
    "frontier_type": "goes by validation tasks, as a rollout has one score",
    "val_evaluation_policy": "is the whole validation set",
    "run_dir": "is the store: agl runs show RUN",
    "seed": "is a parameter of its own",
    "raise_on_exception": "is always true",
}
"""What may not be handed on to `gepa.optimize`, and why."""


class GEPA(Algorithm):
    """Improves prompt templates by the package `gepa`, with our runners, traces and budget.

    The algorithm is "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning" (Agrawal et al., 2025,
    arXiv 2507.19457) as its authors publish it. A candidate is tried on a few train tasks; a model is shown what came
    of it and writes a new text; if that does better on the same tasks, it is scored on the whole validation set.
    Candidates that are best on some validation task are what the next ones are made from.

    It ends when every validation task is done perfectly, or when too few rollouts are left for one more candidate.

    Every `PromptTemplate` among the initial resources is tuned, one at a time in turn. A new text must keep its
    placeholders; one that does not is sent back once and then dropped, before any rollout is spent on it. A rollout
    that the infrastructure lost is repeated and never scored.

    Needs the package: `pip install "agl-protocol[gepa]"`.

    Args:
        reflection_client: The client that the reflecting model is asked through. Calls through an `AsyncOpenAI` end
            when the run is cancelled; one through an `OpenAI` is left to itself.
        reflection_model: The reflecting model.
        max_rollouts: How many rollouts may be spent; not one more is enqueued.
        minibatch_size: Train tasks that are reflected on at a time.
        candidate_selection: What the next candidate is made from.
        rollout_batch_timeout: Seconds that a batch of rollouts may take. A rollout that has started and has not ended
            by then counts 0.
        seed: Of all random choices.
        options: Other parameters of `gepa.optimize`, such as `use_merge`, `module_selector`, `stop_callbacks` or
            `reflection_prompt_template`.

    Raises:
        AlgorithmError: When the package is missing.
        TypeError: When there is no such option.
        ValueError: When a parameter cannot be what it is.

    Example:
        >>> import agentlightning as agl
        >>> from openai import AsyncOpenAI
        >>> algorithm = agl.GEPA(AsyncOpenAI(api_key="any"), max_rollouts=200, use_merge=True)
        >>> algorithm.estimate(train_size=20, val_size=20)
        Estimate(rollouts=200, optimizer_calls=30)
        >>> trainer = agl.Trainer(algorithm=algorithm, initial_resources={"prompt_template": "{question}"})
    """

    is_durable = True

    def __init__(
        self,
        reflection_client: "AsyncOpenAI | OpenAI",
        *,
        reflection_model: str = "gpt-5-mini",
        max_rollouts: int = 500,
        minibatch_size: int = 3,
        candidate_selection: CandidateSelection = "pareto",
        rollout_batch_timeout: float = 3600.0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        for name, value in (("max_rollouts", max_rollouts), ("minibatch_size", minibatch_size)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        if not rollout_batch_timeout > 0:
            raise ValueError(f"rollout_batch_timeout must be more than 0 seconds, not {rollout_batch_timeout!r}")
        if candidate_selection not in get_args(CandidateSelection):
            known = ", ".join(get_args(CandidateSelection))
            raise ValueError(f"candidate_selection must be one of {known}, not {candidate_selection!r}")
        _check(options, _package())
        self._client = reflection_client
        self._reflection_model = reflection_model
        self._timeout = rollout_batch_timeout
        self._options = {"candidate_selection_strategy": candidate_selection, "seed": seed, **options}
        self._settings = {
            "reflection_model": reflection_model,
            "max_rollouts": max_rollouts,
            "minibatch_size": minibatch_size,
            "candidate_selection": candidate_selection,
            "rollout_batch_timeout": rollout_batch_timeout,
            "seed": seed,
            "options": {name: _shown(value) for name, value in options.items()},
        }
        self._max_rollouts = max_rollouts
        self._minibatch_size = minibatch_size
        self._search: Search | None = None
        self._journal: Journal | None = None

    def estimate(self, train_size: int, val_size: int) -> Estimate:
        """What a run may cost at most, but for proposals that are sent back."""
        reflecting = max(0, self._max_rollouts - (val_size or train_size))
        return Estimate(rollouts=self._max_rollouts, optimizer_calls=reflecting // (2 * self._minibatch_size))

    def settings(self) -> dict[str, Any]:
        """All that was chosen, JSON-able."""
        return dict(self._settings)

    def cheapest(self, train_size: int, val_size: int) -> Estimate:
        """The least that can try one other prompt."""
        return Estimate(rollouts=self._least(val_size or train_size), optimizer_calls=1)

    async def run(self, train_dataset: Dataset[Any] | None = None, val_dataset: Dataset[Any] | None = None) -> None:
        """Search for better prompt templates.

        Args:
            train_dataset: The tasks that are reflected on.
            val_dataset: The tasks that candidates are chosen by. None: the train tasks.

        Raises:
            AlgorithmError: When something that it needs is missing or `max_rollouts` is too small, before anything is
                spent; when rollouts are lost or give no rewards; when the model does not answer.
            PromptTemplateError: When an initial template is not well-formed.
        """
        from agentlightning_algorithms.gepa.search import Search

        initial = self.get_initial_resources() or {}
        templates = _tuned(initial)
        train = tasks_of(train_dataset)
        val = tasks_of(val_dataset) or train
        self._check_sizes(len(train), len(val))
        model = Model(self._client, self._reflection_model)
        self._journal = Journal(
            await self.open_ledger(),
            {"train": train, "val": val},
            ask_model=model.answer,
            timeout_seconds=self._timeout,
            on_done=self._count(),
        )
        self._search = Search(
            trials=Trials(self._journal, initial, self._max_rollouts),
            record=Record({name: template.template for name, template in templates.items()}),
            model=model,
            templates=templates,
            adapter=self.get_adapter(),
            train=train,
            val=val,
            minibatch_size=self._minibatch_size,
            options=self._options,
            on_better=self._save,
        )
        await self._search.run()

    def get_best_prompt(self) -> PromptTemplate:
        """The best text found so far for the first prompt template.

        Raises:
            AlgorithmError: When there is none yet.
        """
        for resource in (self.get_best_resources() or {}).values():
            if isinstance(resource, PromptTemplate):
                return resource
        raise AlgorithmError("No best prompt found: none has been tried on the validation set yet; run the algorithm")

    def get_best_resources(self) -> NamedResources | None:
        """The best templates so far, with the resources that go with them. None: there are none yet."""
        if self._search is None or self._search.record.best is None:
            return None
        return self._search.trials.resources(self._search.record.best)

    def summary(self) -> dict[str, Any]:
        """Scores, counts, settings, every candidate and every decision so far; empty before the run."""
        if (search := self._search) is None or self._journal is None:
            return {}
        return {
            "selection": "gepa",
            "settings": dict(self._settings),
            "seed": self._settings["seed"],
            **search.record.summary(search.val),
            "rollouts": search.trials.spent,
            "optimizer_calls": search.model.calls,
            "optimizer_tokens": {model: asdict(used) for model, used in self._journal.usage.items()},
            "stopped_by": search.stopped_by,
            "failures": {
                kind: search.trials.failures[kind] for kind in ("agent", "timeout", "infrastructure", "invalid")
            },
        }

    def _check_sizes(self, train_size: int, val_size: int) -> None:
        if not train_size:
            raise AlgorithmError("GEPA needs a train_dataset: give some tasks to Trainer.fit(train_dataset=...)")
        needed = self._least(val_size)
        if self._max_rollouts < needed:
            raise AlgorithmError(
                f"max_rollouts is {self._max_rollouts}, but to try one other prompt takes {needed}: {val_size} "
                f"validation tasks with either prompt and {self._minibatch_size} train tasks with either; raise it, "
                "or give fewer validation tasks"
            )

    def _least(self, val_size: int) -> int:
        return 2 * val_size + 2 * self._minibatch_size

    def _count(self) -> Callable[[str, RolloutMode], None]:
        done = 0

        def count(step: str, split: RolloutMode) -> None:
            nonlocal done
            done += 1
            self.notify("gepa", done, self._max_rollouts)

        return count

    async def _save(self) -> None:
        run = self.get_run()
        if run is not None and self._search is not None and (best := self._search.record.best) is not None:
            await self.get_store().update_run(run.run_id, best_resources=best.resources, summary=self.summary())


def _package() -> Callable[..., Any]:
    """The package's entry."""
    try:
        optimize: Callable[..., Any] = import_module("gepa").optimize
    except ImportError as error:
        raise AlgorithmError(f'agl.GEPA needs the package gepa ({error}): pip install "agl-protocol[gepa]"') from error
    if "reflection_strategy" not in inspect.signature(optimize).parameters:
        raise AlgorithmError('agl.GEPA needs gepa 0.1.4 or later: pip install --upgrade "agl-protocol[gepa]"')
    return optimize


def _check(options: Mapping[str, Any], optimize: Callable[..., Any]) -> None:
    known = inspect.signature(optimize).parameters
    for name in options:
        if name in _OURS:
            raise TypeError(f"GEPA sets {name} of gepa.optimize itself: it {_OURS[name]}")
        if name not in known:
            free = ", ".join(sorted(known.keys() - _OURS.keys()))
            raise TypeError(f"neither GEPA nor gepa.optimize has a parameter {name!r}; gepa.optimize takes {free}")


def _tuned(resources: NamedResources) -> dict[str, PromptTemplate]:
    templates = {name: resource for name, resource in resources.items() if isinstance(resource, PromptTemplate)}
    if not templates:
        raise AlgorithmError(
            f"GEPA tunes prompt templates, but the initial resources have none, only {sorted(resources) or 'nothing'}: "
            'give one to Trainer(initial_resources={"prompt_template": PromptTemplate(...)})'
        )
    for name, template in templates.items():
        _log.info("Tuning %r, whose placeholders are %s", name, sorted(template.placeholders) or "none")
    return templates


def _shown(value: Any) -> Any:
    """An option as the summary tells it; of an object, its class."""
    return value if isinstance(value, str | int | float | bool | dict | None) else type(value).__qualname__
