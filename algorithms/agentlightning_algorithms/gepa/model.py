"""The model that reflects: asks it, counts its calls, and bears with a few that fail. Knows no prompts."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from agentlightning.algorithm import Answer, Journal, ModelError

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

T = TypeVar("T")

_log = logging.getLogger("agentlightning.algorithm.gepa")

_SILENCES = 3


class Model:
    """The reflecting model.

    Args:
        client: What it is asked through.

    Attributes:
        name: Its name.
        calls: How many times it was asked.
    """

    def __init__(self, client: "AsyncOpenAI | OpenAI", name: str) -> None:
        self._client = client
        self.name = name
        self._silences = 0
        self._asked: Counter[str] = Counter()
        self.calls = 0

    async def ask(self, journal: Journal, step: str, message: str) -> str | None:
        """The model's answer, which is kept under the step. None: there is none, which costs one proposal.

        Raises:
            ModelError: When it did not answer several times in a row; the run can be resumed.
            BudgetSpent: When the call cannot be paid.
        """
        self._asked[step] += 1
        self.calls += 1
        try:
            answer = await journal.ask(f"{step}/reflect/{self._asked[step]}", self.name, message)
        except ModelError as error:
            self._endure(error)
            return None
        self._silences = 0
        return answer

    async def answer(self, model: str, message: str) -> Answer:
        """Ask it, whatever that raises."""
        from openai import OpenAI

        create: Callable[..., Any] = self._client.chat.completions.create
        request = {"model": model, "messages": [{"role": "user", "content": message}]}
        blocks = isinstance(self._client, OpenAI)
        return Answer.of_completion(await (_aside(lambda: create(**request)) if blocks else create(**request)))

    def _endure(self, error: ModelError) -> None:
        self._silences += 1
        if self._silences >= _SILENCES:
            raise ModelError(
                f"{self.name} did not answer {_SILENCES} times in a row; the last error is {error}. Check the base URL "
                f"and the key of reflection_client, and the name: reflection_model={self.name!r}"
            ) from error
        _log.error("%s did not answer: %s", self.name, error)


async def _aside(blocking: Callable[[], T]) -> T:
    """What a blocking call returns. One that is given up waits for its answer in vain and delays nobody's exit."""
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # From here on, whoever gives up leaves the thread its future.

    def run() -> None:
        try:
            answer.set_result(blocking())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="reflection", daemon=True).start()
    return await asyncio.wrap_future(answer)
