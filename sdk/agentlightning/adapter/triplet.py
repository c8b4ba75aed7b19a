"""What reinforcement learning is fed with: of each call of a model the prompt, the response and the reward.

Decides which calls count and gives them their rewards. Knows calls of models, not who recorded them.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from agentlightning.adapter.agents import agent_name
from agentlightning.adapter.call import LLMCall, is_llm_call, llm_calls, repeated
from agentlightning.adapter.credit import RewardMatchPolicy, credited
from agentlightning.adapter.explanation import Explanation, LLMCallAdapter
from agentlightning.adapter.numbered import JSON, decoded, nested
from agentlightning.adapter.reward import finds_reward
from agentlightning.adapter.tree import Tree
from agentlightning.emitter import get_reward_value, is_reward_span
from agentlightning.types import Span


class Triplet(BaseModel):
    """One call of a model as a step of reinforcement learning.

    Example:
        >>> from agentlightning import Triplet
        >>> Triplet(prompt={"token_ids": [1, 2]}, response={"token_ids": [3]}, reward=1.0).metadata
        {}
    """

    prompt: Any
    """What was asked: `token_ids`, and as the adapter has them `raw_content` (messages) and `image_urls`."""
    response: Any
    """What was answered: `token_ids`, and as the adapter has them `raw_content` (messages) and `logprobs`."""
    reward: float | None = None
    """What the call was worth. None: no reward was given to it."""
    metadata: dict[str, Any] = Field(default_factory=dict)


class TraceToTripletBase(LLMCallAdapter[Triplet]):
    """Turns the calls of models in a rollout into triplets. A subclass says which calls count and what is kept.

    Attributes:
        reward_match: To which call a reward is given.

    Example:
        >>> from agentlightning import TraceToTripletBase, Triplet
        >>> class Answers(TraceToTripletBase):
        ...     def refusal(self, call, tree):
        ...         return None if call.is_answered else "no answer"
        ...
        ...     def triplet(self, call, reward, tree):
        ...         return Triplet(prompt=call.messages, response=call.answers, reward=reward)
        >>> Answers().adapt([])
        []
    """

    reward_match: RewardMatchPolicy = RewardMatchPolicy.FIRST_OCCURRENCE

    def explain(self, spans: Sequence[Span], /) -> list[Explanation[Triplet]]:
        """Say of each call of a model whether it is a triplet, and with which reward."""
        tree = self.tree(spans)
        calls = llm_calls(tree.spans)
        dropped = {call.span.span_id: reason for call in calls if (reason := self.refusal(call, tree))}
        counting = [call for call in calls if call.span.span_id not in dropped]
        for span_id, better in repeated(counting, tree).items():
            dropped[span_id] = f"#{better.span.sequence_id} records the same call"
        used = [call.span for call in calls if call.span.span_id not in dropped]
        rewards = credited(used, tree, self.reward_match)
        return [
            Explanation(call.span, reason)
            if (reason := dropped.get(call.span.span_id))
            else self._explanation(call, rewards.get(call.span.span_id), tree)
            for call in calls
        ]

    def tree(self, spans: Sequence[Span]) -> Tree:
        """How the spans lie in one another."""
        return Tree(spans)

    @abstractmethod
    def refusal(self, call: LLMCall, tree: Tree) -> str | None:
        """Why a call does not count; None when it does."""

    @abstractmethod
    def triplet(self, call: LLMCall, reward: float | None, tree: Tree) -> Triplet:
        """What a call becomes."""

    def _explanation(self, call: LLMCall, reward: Span | None, tree: Tree) -> Explanation[Triplet]:
        value = None if reward is None else get_reward_value(reward)
        prompt, response = map(len, call.token_ids)
        tokens = f"{prompt} + {response} token ids" if prompt and response else "no token ids"
        worth = "no reward" if reward is None else f"reward {value:g} of #{reward.sequence_id}"
        return Explanation(call.span, f"{tokens}, {worth}", self.triplet(call, value, tree))


class TracerTraceToTriplet(TraceToTripletBase):
    """A triplet for each call of a model that an agent made and that was answered.

    Args:
        repair_hierarchy: Put spans that hang under the root into the span whose time encloses theirs; see `Tree`.
        llm_call_match: A regular expression that the name of a call's span must match. None: every call counts.
        agent_match: A regular expression that the name of the nearest agent around a call must match. None: all do.
        exclude_llm_call_in_reward: Pass over what is called to find a reward, such as a judge: what lies inside a span
            that carries a reward, or inside an operation named `agentlightning.reward`.
        reward_match: To which call a reward is given.
        require_token_ids: Pass over calls whose token ids were not recorded.

    Example:
        >>> from agentlightning import Span, TracerTraceToTriplet
        >>> said = {"gen_ai.prompt.0.content": "Which room?", "gen_ai.completion.0.content": "A103"}
        >>> ids = {"prompt_token_ids": [1, 2], "response_token_ids": [3]}
        >>> call = Span.from_attributes(name="openai.chat.completion", attributes=said | ids, sequence_id=1)
        >>> adapter = TracerTraceToTriplet()
        >>> adapter.adapt([call])[0].response["token_ids"]
        [3]
        >>> print(*adapter.explain([call]))
        used     #1 openai.chat.completion: 2 + 1 token ids, no reward
    """

    def __init__(
        self,
        repair_hierarchy: bool = True,
        llm_call_match: str | None = None,
        agent_match: str | None = None,
        exclude_llm_call_in_reward: bool = True,
        reward_match: RewardMatchPolicy = RewardMatchPolicy.FIRST_OCCURRENCE,
        *,
        require_token_ids: bool = False,
    ) -> None:
        self.repair_hierarchy = repair_hierarchy
        self.llm_call_match = llm_call_match
        self.agent_match = agent_match
        self.exclude_llm_call_in_reward = exclude_llm_call_in_reward
        self.reward_match = RewardMatchPolicy(reward_match)
        self.require_token_ids = require_token_ids

    def tree(self, spans: Sequence[Span]) -> Tree:
        """How the spans lie in one another, repaired where that is asked for."""
        tree = Tree(spans)
        if self.repair_hierarchy:
            tree.repair(may_enclose=lambda span: not is_llm_call(span) and not is_reward_span(span))
        return tree

    def refusal(self, call: LLMCall, tree: Tree) -> str | None:
        """Why a call does not count; None when it does."""
        span = call.span
        agent = _agent_of(span, tree)
        if self.llm_call_match is not None and not re.search(self.llm_call_match, span.name):
            return f"its name does not match llm_call_match={self.llm_call_match!r}"
        if self.agent_match is not None and (agent is None or not re.search(self.agent_match, agent)):
            return f"its agent is {agent or 'none'}, which does not match agent_match={self.agent_match!r}"
        if self.exclude_llm_call_in_reward and any(map(finds_reward, tree.above(span))):
            return "it was called to find a reward"
        if span.status.status_code == "ERROR":
            return f"the call failed: {span.status.description or 'the span does not say how'}"
        if not call.is_answered:
            return "no answer was recorded; does the instrumentation capture content?"
        if self.require_token_ids and not all(call.token_ids):
            return _no_token_ids(call)
        return None

    def triplet(self, call: LLMCall, reward: float | None, tree: Tree) -> Triplet:
        """The call in tokens and in words."""
        attributes = call.attributes
        logprobs = decoded(attributes.get("logprobs.content"))
        metadata = {
            "request": _listed(nested(attributes, "gen_ai.request.")),
            "response": _listed(nested(attributes, "gen_ai.response.")),
            "response_id": call.response_id,
            "finish_reasons": call.finish_reasons,
            "agent_name": _agent_of(call.span, tree),
        }
        return Triplet(
            prompt={
                "token_ids": call.token_ids.prompt,
                "raw_content": call.messages,
                "image_urls": _image_urls(call.messages),
            },
            response={"token_ids": call.token_ids.response, "raw_content": call.answers}
            | ({} if logprobs is None else {"logprobs": logprobs}),
            reward=reward,
            metadata=metadata,
        )


class LlmProxyTraceToTriplet(TraceToTripletBase):
    """A triplet in tokens alone for each call that a proxy recorded with its token ids.

    Example:
        >>> from agentlightning import LlmProxyTraceToTriplet, Span
        >>> ids = {"llm.hosted_vllm.prompt_token_ids": "[1, 2]", "llm.hosted_vllm.response_token_ids": "[[3]]"}
        >>> LlmProxyTraceToTriplet().adapt([Span.from_attributes(name="raw_gen_ai_request", attributes=ids)])[0].prompt
        {'token_ids': [1, 2]}
    """

    def refusal(self, call: LLMCall, tree: Tree) -> str | None:
        """Why a call does not count; None when it does."""
        return None if all(call.token_ids) else _no_token_ids(call)

    def triplet(self, call: LLMCall, reward: float | None, tree: Tree) -> Triplet:
        """The call in tokens."""
        return Triplet(
            prompt={"token_ids": call.token_ids.prompt},
            response={"token_ids": call.token_ids.response},
            reward=reward,
            metadata={"response_id": call.response_id},
        )


def _agent_of(span: Span, tree: Tree) -> str | None:
    names = (agent_name(around) for around in (span, *tree.above(span)))
    return next((name for name in names if name is not None), None)


def _no_token_ids(call: LLMCall) -> str:
    missing = [name for name, ids in call.token_ids._asdict().items() if not ids]
    return f"no token ids of the {' and '.join(missing)}: the model's server returned none"


def _image_urls(messages: Sequence[JSON]) -> list[str]:
    parts = [part for message in messages if isinstance(message.get("content"), list) for part in message["content"]]
    urls = (_image_url(part) for part in parts if isinstance(part, dict))
    return [url for url in urls if isinstance(url, str)]


def _image_url(part: JSON) -> Any:
    image = part.get("image_url")
    return image.get("url") if isinstance(image, dict) else image


def _listed(node: Any) -> Any:
    """Lists where the names of a node are numbers."""
    if not isinstance(node, dict):
        return node
    if node and all(name.isdecimal() for name in node):
        return [_listed(node[name]) for name in sorted(node, key=int)]
    return {name: _listed(child) for name, child in node.items()}
