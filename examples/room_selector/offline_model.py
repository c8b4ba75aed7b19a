"""A simulated language model for running this example without a network: rules and dice, no language model at all.

Knows only what a request says. It books as well as its prompt instructs, criticises what it sees in traces and edits as
the critique asks, each with some noise; scores reached with it say nothing about any real model.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer
from offline_rules import NO_ROOM, RULES, Meeting, Room, broken_rules, choose, stated_rules

Dice = Callable[[str], float]
Message = dict[str, Any]

ODDS_STATED = 0.96
REMINDER = "Look at the list twice before you decide."


@contextmanager
def offline_model(seed: int = 0) -> Iterator[str]:
    """Runs the model in a child process, which dies with this one, and gives its base URL."""
    command = [sys.executable, __file__, "--seed", str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        if not base_url:
            raise RuntimeError(f"the offline model did not start; it exited with status {process.wait()}")
        yield base_url


def answer(request: ChatRequest, seed: int = 0) -> ChatReply:
    """What the model says; its noise is a hash of the seed, the request and how often the request was made."""
    dice = partial(_roll, seed, request.digest, request.occurrence)
    text = "\n".join(_text(message) for message in request.messages)
    if request.tools or any(message["role"] == "tool" for message in request.messages):
        return _book(request, dice)
    if "score" in _schema_properties(request.body):
        return ChatReply(_judge(text))
    if "<prompt_template>" in text and "<critique>" in text:
        return ChatReply(_edit(text, dice))
    if "<prompt_template>" in text and "<rollout " in text:
        return ChatReply(_criticise(text, dice))
    return ChatReply(
        f'You asked: "{_text(request.messages[-1])}" I am a simulation, and this is all I can say about it.'
    )


def _book(request: ChatRequest, dice: Dice) -> ChatReply:
    prompt = "\n".join(_text(message) for message in request.messages if message["role"] in ("system", "user"))
    meeting = Meeting.read(prompt)
    rooms = _rooms(request.messages)
    if rooms is None:
        return _look_up(meeting)
    stated = stated_rules(prompt)
    followed = {
        name for name, rule in RULES.items() if dice(name) < (ODDS_STATED if name in stated else rule.odds_unstated)
    }
    room = choose(rooms, meeting, followed, dice)
    if room is None and "no_room" not in followed:
        return ChatReply("I am sorry, I could not find anything that suits.")
    choice = room["id"] if room else NO_ROOM
    return ChatReply(choice if "id_only" in followed else f"Having compared them, I suggest {choice} for your meeting.")


def _look_up(meeting: Meeting) -> ChatReply:
    arguments = {"date": meeting.date, "time": meeting.time, "duration_min": meeting.duration_min}
    if None in arguments.values():
        return ChatReply("On which date, at what time and for how long do you need the room?")
    return ChatReply(tool_calls=[("get_rooms_and_availability", arguments)])


def _criticise(text: str, dice: Dice) -> str:
    """Names up to four rules that the rollouts break and the template does not state, the frequent ones first."""
    seen: Counter[str] = Counter()
    for attributes, trace in re.findall(r"<rollout\b([^>]*)>(.*?)</rollout>", text, re.DOTALL):
        if 'reward="1.0"' not in attributes:
            seen.update(_broken_in(trace))
    stated = stated_rules(_between("prompt_template", text))
    unstated = sorted(seen.keys() - stated, key=lambda name: -seen[name] - dice(name))
    if not unstated:
        return "- I see no failure that the prompt could have prevented. It might ask for a second look at the list."
    return "\n".join(f"- {RULES[name].critique}" for name in unstated[: 3 + round(dice("length"))])


def _broken_in(trace: str) -> list[str]:
    messages = [message for value in _json_values(trace) for message in _messages_in(value)]
    rooms = _rooms(messages)
    prompts = [_text(message) for message in messages if message["role"] == "user"]
    answers = [_text(message) for message in messages if message["role"] == "assistant" and _text(message)]
    if not (rooms and prompts and answers):
        return []
    return broken_rules(rooms, Meeting.read(prompts[0]), answers[-1])


def _edit(text: str, dice: Dice) -> str:
    """The template with two or three of the rules that the critique asks for, in words of its own."""
    template = _between("prompt_template", text)
    stated = stated_rules(template)
    missing = [name for name in stated_rules(_between("critique", text)) if name not in stated]
    added = [_wording(name, dice) for name in missing[: 2 + round(dice("length"))]]
    if not added and REMINDER not in template:
        added = [REMINDER]
    return "\n".join([template, *added])


def _wording(name: str, dice: Dice) -> str:
    wordings = RULES[name].wordings
    return wordings[int(dice(name) * len(wordings))]


def _judge(text: str) -> str:
    expected, given = _between("expected", text), _between("answer", text)
    if given == expected:
        return json.dumps({"reason": "The same choice.", "score": 1.0})
    if re.search(rf"\b{re.escape(expected)}\b", given):
        return json.dumps({"reason": "The choice is there among other words.", "score": 0.5})
    return json.dumps({"reason": "Another choice.", "score": 0.0})


def _roll(*parts: object) -> float:
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _between(tag: str, text: str) -> str:
    # The last one: instructions may speak of the tag before it is used.
    found = re.findall(rf"<{tag}>((?:(?!<{tag}>).)*?)</{tag}>", text, re.DOTALL)
    return found[-1].strip() if found else ""


def _schema_properties(body: dict[str, Any]) -> dict[str, Any]:
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema", {})
    properties: dict[str, Any] = schema.get("properties", {})
    return properties


def _text(message: Message) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _rooms(messages: list[Message]) -> list[Room] | None:
    """The rooms that the last call of the tool returned."""
    for message in reversed(messages):
        if message["role"] == "tool":
            for value in _json_values(_text(message)):
                if isinstance(value, dict) and "rooms" in value:
                    rooms: list[Room] = value["rooms"]
                    return rooms
    return None


def _json_values(text: str) -> Iterator[Any]:
    """The JSON arrays and objects in a text, whatever stands between them."""
    decoder = json.JSONDecoder()
    position = 0
    while start := re.compile(r"[\[{]").search(text, position):
        try:
            value, position = decoder.raw_decode(text, start.start())
            yield value
        except ValueError:
            position = start.end()


def _messages_in(value: Any) -> Iterator[Message]:
    if isinstance(value, dict) and "role" in value:
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _messages_in(item)


def main() -> None:
    """Serves until SIGTERM, SIGINT or, where standard input is a pipe, its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: a free one)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the noise")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    with OpenAIServer(partial(answer, seed=arguments.seed), arguments.port) as server:
        print(server.base_url, flush=True)
        mode = os.fstat(sys.stdin.fileno()).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            sys.stdin.read()
        else:
            signal.pause()


if __name__ == "__main__":
    main()
