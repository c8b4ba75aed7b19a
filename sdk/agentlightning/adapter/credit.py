"""Which reward is whose: the rules by which the rewards of a rollout are given to calls of models."""

from collections.abc import Sequence
from enum import StrEnum

from agentlightning.adapter.tree import Tree
from agentlightning.emitter import is_reward_span
from agentlightning.types import Span


class RewardMatchPolicy(StrEnum):
    """To which call a reward is given. Either way to one that had ended and has no reward yet, the latest of these.

    Example:
        >>> from agentlightning import RewardMatchPolicy, TracerTraceToTriplet
        >>> adapter = TracerTraceToTriplet(reward_match=RewardMatchPolicy.FIRST_SIBLING)
    """

    FIRST_OCCURRENCE = "first_occurrence"
    """Any call of the attempt."""
    FIRST_SIBLING = "first_sibling"
    """A call that lies beside the reward, in the same span."""


def credited(calls: Sequence[Span], tree: Tree, policy: RewardMatchPolicy) -> dict[str, Span]:
    """The reward span of each call that is given one, by the id of the call's span.

    Args:
        calls: The calls that count, in the order of the tree.
        tree: All spans.
        policy: Which calls a reward may be given to.
    """
    order = {span.span_id: place for place, span in enumerate(tree.spans)}
    rewards: dict[str, Span] = {}
    for reward in filter(is_reward_span, tree.spans):
        among = calls if policy == RewardMatchPolicy.FIRST_OCCURRENCE else _beside(reward, calls, tree)
        before = (call for call in reversed(among) if order[call.span_id] < order[reward.span_id])
        open_calls = (call for call in before if call.span_id not in rewards and _had_ended(call, reward))
        if call := next(open_calls, None):
            rewards[call.span_id] = reward
    return rewards


def _beside(reward: Span, calls: Sequence[Span], tree: Tree) -> list[Span]:
    beside = {span.span_id for span in tree.siblings(reward)}
    return [call for call in calls if call.span_id in beside]


def _had_ended(call: Span, reward: Span) -> bool:
    """Whether a call that began before a reward had ended by then. Clocks of two processes are not compared."""
    if call.attempt_id != reward.attempt_id:
        return False
    if call.end_time is None or reward.start_time is None or call.end_time <= reward.start_time:
        return True
    return call.resource != reward.resource
