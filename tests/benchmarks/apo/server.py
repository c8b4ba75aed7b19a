"""The models of a world behind a loopback HTTP server of OpenAI's shape: what real packages are pointed at.

The agent's model finds the prompt by its sentinels and the task by its number, so that no contestant has to say which
prompt it is trying: the referee counts what arrives.
"""

import re
import threading
from typing import Self

from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from apo.grammar import PLACEHOLDER, block_of
from apo.models import tokens
from apo.referee import Referee

_REQUEST = re.compile(r"REQUEST (\w+) from the \w+ site needs [^.]+\.")
_ANSWER = re.compile(r"ANSWER (\w+): ([\w= ]+);")


class WorldServer:
    """Serves `sim-task`, `sim-judge`, `sim-critic`, `sim-editor` and `sim-reflect` while it is entered.

    Args:
        referee: Of the world that they are in; it counts rollouts, calls and tokens.
    """

    def __init__(self, referee: Referee) -> None:
        self._referee = referee
        self._tasks = {task.id: task for task in [*referee.world.train, *referee.world.val, *referee.world.test]}
        self._lock = threading.Lock()
        self._server = OpenAIServer(self._answer)

    @property
    def base_url(self) -> str:
        """What a client is given as its `base_url`."""
        return self._server.base_url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def _answer(self, request: ChatRequest) -> ChatReply:
        text = "\n".join(_text(message["content"]) for message in request.messages)
        with self._lock:
            match request.model:
                case "sim-task":
                    return ChatReply(self._try(text))
                case "sim-judge":
                    return ChatReply(self._judge(text, request.occurrence))
                case model:
                    return ChatReply(self._referee.models.ask(model, text))

    def _try(self, text: str) -> str:
        asked = _REQUEST.search(text)
        prompt = block_of(text) or text
        if asked is None:
            self._referee.attempt(prompt, self._referee.world.train[0])
            raise ValueError("there is no request in the prompt")
        outcome = self._referee.attempt(prompt.replace(asked[0], PLACEHOLDER), self._tasks[asked[1]])
        self._count("sim-task", text, outcome.answer)
        return outcome.answer

    def _judge(self, text: str, occurrence: int) -> str:
        said = _ANSWER.search(text)
        if said is None:
            raise ValueError("there is no answer to be judged")
        world = self._referee.world
        codes = [pair.partition("=")[2] for pair in said[2].split()]
        outcome = world.judge(self._tasks[said[1]], codes, world.chance("judge", said[0], occurrence))
        self._count("sim-judge", text, outcome.feedback)
        return outcome.feedback

    def _count(self, model: str, asked: str, answered: str) -> None:
        models = self._referee.models
        models.calls[model] += 1
        models.tokens[model] += tokens(asked) + tokens(answered)


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return str(content or "")
