"""Token ids of a call, which servers of open models return and reinforcement learning needs.

Knows the attributes they are recorded in: of this tracer, and of LiteLLM (`llm.<provider>.*`, Python literals).
"""

import ast
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agentlightning.adapter.numbered import decoded

_OF_PROVIDER: Final = re.compile(r"llm\.\w+\.(prompt_token_ids|response_token_ids|choices)")


class TokenIds(NamedTuple):
    """Those of the prompt and of the first choice; empty when none are recorded or they are no integers."""

    prompt: list[int]
    response: list[int]


def is_of_provider(name: str) -> bool:
    """Whether an attribute is what a provider's raw response answers with."""
    return _OF_PROVIDER.fullmatch(name) is not None


def of_provider(attributes: Mapping[str, Any], field: str) -> Any:
    """A field of the provider's raw response, None when it is not recorded."""
    spelled = re.compile(rf"llm\.\w+\.{field}")
    found = (value for name, value in attributes.items() if spelled.fullmatch(name))
    return _literal(next(found, None))


def token_ids(attributes: Mapping[str, Any]) -> TokenIds:
    """The token ids of a call."""
    own = TokenIds(_ids(attributes.get("prompt_token_ids")), _ids(attributes.get("response_token_ids")))
    if own.prompt or own.response:
        return own
    response = _ids(_first(of_provider(attributes, "response_token_ids")))
    choice = _first(of_provider(attributes, "choices"))
    of_choice = choice.get("token_ids") if isinstance(choice, dict) else None
    return TokenIds(_ids(of_provider(attributes, "prompt_token_ids")), response or _ids(of_choice))


def _ids(value: Any) -> list[int]:
    listed = _literal(value)
    if not isinstance(listed, (list, tuple)) or not all(type(item) is int for item in listed):
        return []
    return list(listed)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) and value else None


def _literal(value: Any) -> Any:
    """What a text says as JSON or as a Python literal; anything else as it is."""
    parsed = decoded(value)
    if not isinstance(parsed, str):
        return parsed
    try:
        return ast.literal_eval(parsed)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return parsed
