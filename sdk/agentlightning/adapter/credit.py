"""Which reward is whose: the rules by which the rewards of a rollout are given to calls of models."""

from collections.abc import Sequence
from enum import StrEnum

from agentlightning.adapter.tree import Tree
from agentlightning.emitter import get_reward_value
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
    """The reward span of each call that is given one, by the id of the call's span."""
    order = {span.span_id: place for place, span in enumerate(tree.spans)}
    rewards: dict[str, Span] = {}
    for reward in tree.spans:
        if get_reward_value(reward) is None:
            continue
        among = calls if policy == RewardMatchPolicy.FIRST_OCCURRENCE else _beside(reward, calls, tree)
        open_calls = [call for call in among if call.span_id not in rewards and _had_ended(call, reward, order)]
        if open_calls:
            rewards[max(open_calls, key=lambda call: order[call.span_id]).span_id] = reward
    return rewards


def _beside(reward: Span, calls: Sequence[Span], tree: Tree) -> list[Span]:
    beside = {span.span_id for span in tree.siblings(reward)}
    return [call for call in calls if call.span_id in beside]


def _had_ended(call: Span, reward: Span, order: dict[str, int]) -> bool:
    """Whether a call had ended when a reward was given. Clocks of two processes are not compared."""
    if call.attempt_id != reward.attempt_id or order[call.span_id] > order[reward.span_id]:
        return False
    if call.end_time is None or reward.start_time is None or call.resource != reward.resource:
        return True
    return call.end_time <= reward.start_time
