"""What an algorithm is given before it runs and what it answers afterwards. Knows no Trainer and no transport."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentlightning.algorithm.ledger import Ledger
from agentlightning.errors import AlgorithmError
from agentlightning.store.base import LightningStore
from agentlightning.types import Dataset, NamedResources, Run

if TYPE_CHECKING:
    from agentlightning.adapter import TraceAdapter


@dataclass(frozen=True)
class Estimate:
    """What a run will cost if nothing goes wrong.

    Attributes:
        rollouts: How many tasks will be done.
        optimizer_calls: How many times the algorithm itself asks a language model.

    Example:
        >>> Estimate(rollouts=40)
        Estimate(rollouts=40, optimizer_calls=0)
    """

    rollouts: int
    optimizer_calls: int = 0


class Algorithm(ABC):
    """Decides which resources to try on which tasks. Subclass it and write `run`, or decorate a function with `algo`.

    Attributes:
        progress: Called with the phase, the rollouts done and the rollouts expected in all. None: nobody asks.

    Example:
        >>> import agentlightning as agl
        >>> class Shortest(agl.Algorithm):
        ...     async def run(self, train_dataset=None, val_dataset=None):
        ...         resources = await self.get_store().add_resources(self.get_initial_resources() or {})
        ...         for task in train_dataset or []:
        ...             await self.get_store().enqueue_rollout(task, "train", resources.resources_id)
        >>> Shortest().is_async()
        True
    """

    progress: Callable[[str, int, int], None] | None = None
    needs_tasks = True
    """Whether there is nothing to do without a dataset."""
    is_durable = False
    """Whether it does all its work by a `Journal`, so that it can be resumed and keeps to a budget."""
    _store: LightningStore | None = None
    _ledger: Ledger | None = None
    _adapter: "TraceAdapter[Any] | None" = None
    _initial_resources: NamedResources | None = None
    _run: Run | None = None

    @abstractmethod
    def run(
        self, train_dataset: Dataset[Any] | None = None, val_dataset: Dataset[Any] | None = None
    ) -> Awaitable[None] | None:
        """Do all the work; a coroutine function or a plain one.

        Args:
            train_dataset: The tasks to learn from.
            val_dataset: The tasks to choose by.
        """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The same as `run`."""
        return self.run(*args, **kwargs)

    def is_async(self) -> bool:
        """Whether `run` has to be awaited."""
        return inspect.iscoroutinefunction(self.run)

    def estimate(self, train_size: int, val_size: int) -> Estimate | None:
        """What a run on datasets of these sizes will cost. None: that is not known beforehand."""
        return None

    def cheapest(self, train_size: int, val_size: int) -> Estimate | None:
        """The least that a run has to spend to find anything. None: that is not known beforehand."""
        return None

    def settings(self) -> dict[str, Any]:
        """What was chosen, JSON-able; a run is resumed only with the same."""
        return {}

    def get_best_resources(self) -> NamedResources | None:
        """The best resources so far. None: there are none, or the algorithm does not look for any."""
        return None

    def summary(self) -> dict[str, Any]:
        """What a reader wants to know of the run so far, JSON-able; it is kept with the run."""
        return {}

    def notify(self, phase: str, done: int, total: int) -> None:
        """Tell whoever asked how far the run is."""
        if self.progress is not None:
            self.progress(phase, done, total)

    def set_store(self, store: LightningStore) -> None:
        """Give the algorithm its store, bound to its run and queue."""
        self._store = store

    def get_store(self) -> LightningStore:
        """The store.

        Raises:
            AlgorithmError: When there is none.
        """
        if self._store is None:
            raise AlgorithmError(
                "the algorithm has no store: run it by Trainer.fit(), or call set_store() before run()"
            )
        return self._store

    def set_ledger(self, ledger: Ledger) -> None:
        """Give the algorithm what its run has done and may spend, opened."""
        self._ledger = ledger

    async def open_ledger(self) -> Ledger:
        """What the run has done and may spend; without one that was given, what its store has, and no limit."""
        if self._ledger is not None:
            return self._ledger
        ledger = Ledger(self.get_store())
        await ledger.open()
        return ledger

    def set_adapter(self, adapter: "TraceAdapter[Any]") -> None:
        """Give the algorithm what turns spans into the data it learns from."""
        self._adapter = adapter

    def get_adapter(self) -> "TraceAdapter[Any]":
        """The adapter.

        Raises:
            AlgorithmError: When there is none.
        """
        if self._adapter is None:
            raise AlgorithmError(
                "the algorithm has no adapter: give one to Trainer(adapter=...), or call set_adapter() before run()"
            )
        return self._adapter

    def set_initial_resources(self, resources: NamedResources) -> None:
        """Give the algorithm the resources to start from."""
        self._initial_resources = resources

    def get_initial_resources(self) -> NamedResources | None:
        """The resources to start from. None: there are none, which suits an agent that asks for none."""
        return self._initial_resources

    def set_run(self, run: Run) -> None:
        """Tell the algorithm which run this is in the store."""
        self._run = run

    def get_run(self) -> Run | None:
        """The run that the algorithm executes. None: its work is not kept as a run."""
        return self._run
