"""The model that reflects: asks it, counts its calls, and bears with a few that fail. Knows no prompts."""

import asyncio
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from agentlightning import AlgorithmError

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI
    from openai.types.chat import ChatCompletion

T = TypeVar("T")

_log = logging.getLogger("agentlightning.algorithm.gepa")

_SILENCES = 3


class Model:
    """The reflecting model.

    Attributes:
        name: Its name.
        calls: How many times it was asked.
        tokens: What the calls that were answered came to, by model.
    """

    def __init__(self, client: "AsyncOpenAI | OpenAI", name: str) -> None:
        self._client = client
        self.name = name
        self._silences = 0
        self.calls = 0
        self.tokens: defaultdict[str, Counter[str]] = defaultdict(Counter)

    async def ask(self, message: str) -> str | None:
        """The model's answer. None: there is none, which costs the caller one proposal.

        Raises:
            AlgorithmError: When it did not answer several times in a row.
        """
        self.calls += 1
        try:
            completion = await self._complete(message)
        except Exception as error:  # The client is the user's; whatever it raises is a call without an answer.
            self._endure(error)
            return None
        self._silences = 0
        self._count(completion)
        return (completion.choices[0].message.content or "").strip()

    async def _complete(self, message: str) -> "ChatCompletion":
        from openai import OpenAI

        create: Callable[..., Any] = self._client.chat.completions.create
        request = {"model": self.name, "messages": [{"role": "user", "content": message}]}
        blocks = isinstance(self._client, OpenAI)
        completion: ChatCompletion = await (_aside(lambda: create(**request)) if blocks else create(**request))
        return completion

    def _endure(self, error: Exception) -> None:
        self._silences += 1
        cause = f"{type(error).__name__}: {error}"
        if self._silences >= _SILENCES:
            raise AlgorithmError(
                f"{self.name} did not answer {_SILENCES} times in a row; the last error is {cause}. Check the base URL "
                f"and the key of reflection_client, and the name: reflection_model={self.name!r}"
            ) from error
        _log.error("%s did not answer: %s", self.name, cause)

    def _count(self, completion: "ChatCompletion") -> None:
        counts = self.tokens[self.name]
        counts["calls"] += 1
        if completion.usage is None:
            counts["unmeasured_calls"] += 1
        else:
            counts["input_tokens"] += completion.usage.prompt_tokens
            counts["output_tokens"] += completion.usage.completion_tokens


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
