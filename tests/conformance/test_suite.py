"""The suite itself: a runner that does one thing wrong fails the scenario that is about it, and says what it did."""

import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance import test_agent, test_delivery, test_lease, test_store_away, test_way_out
from tests.conformance.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

Scenario = Callable[[Stage], Awaitable[None]]

BROKEN = Path(__file__).with_name("broken.py")
IS_LONG = os.environ.get("AGL_TEST_LENGTH") == "long"
SCENARIOS = {
    name.removeprefix("test_"): scenario
    for module in (test_agent, test_delivery, test_lease, test_store_away, test_way_out)
    for name, scenario in vars(module).items()
    if name.startswith("test_")
}
"""By name, in the order they are played."""
FLAWS = {
    "never heartbeats": ("slow_work", "was not renewed in time"),
    "completes what is lost": ("not_held", r"completed at-\w+ \S+ s after HeartbeatAttempts said that it was lost"),
    "runs what comes twice": ("comes_twice", "delivered twice, and the agent wrote"),
    "claims again with another id": ("claim_whose_answer", "not made again with the same request_id"),
    "breaks on what is unknown": ("unknown_fields", "the runner ended with exit code"),
    "ends with 1 when told to end": ("sigterm_finishes", "exit code 1 instead of 0"),
    "takes more when told to end": ("sigterm_finishes", "the agent was begun after SIGTERM"),
    "keeps what it claimed when told to end": ("sigterm_finishes", "the runner has ended and left this leased"),
    "gives nothing up at the second signal": ("second_sigterm", "was not given up as INFRASTRUCTURE"),
    "blames the agent for missing resources": ("resources_that", "the failure is not INFRASTRUCTURE"),
    "blames the network for the agent": ("agent_that_fails", "the failure is not AGENT"),
    "completes only once": ("completion_whose_answer", "the completion was made again"),
    "sends spans after the completion": ("spans_are_there", "completed before the store had"),
    "ends when the store goes away": ("store_that_was_killed", "the runner ended with exit code 1"),
    "loses the reward": ("a_rollout_reaches", "the final reward is None"),
    "takes three at once": ("two_rollouts", "before one was free"),
    "runs one at a time": ("two_rollouts", "the agent wrote 'began'"),
    "completes again what is refused": ("completion_that_is_refused", "was completed 2 times"),
    "stays when told that the store goes": ("says_it_goes", "the runner did not half-close it"),
    "reads the last resources": ("a_rollout_reaches", "the agent did not do what its task says: .*later"),
    "runs more than it is to": ("as_many_rollouts", "three rollouts were begun so many times"),
}
"""What a runner may do wrong, the scenario that is about it, and what is said of it."""
SOUND = ("sound", "sound by stream")
QUICK = ("never heartbeats", "completes what is lost", "blames the network for the agent")
PATIENCE = 4.0


def played() -> Iterator[tuple[str, str]]:
    """Flaws and scenarios: each with its own, and at length with all; the sound runners with all."""
    for flaw, (about, _) in FLAWS.items():
        yield from ((flaw, name) for name in SCENARIOS if about in name and (IS_LONG or flaw in QUICK))
    yield from ((sound, name) for name in SCENARIOS for sound in SOUND if IS_LONG)


async def play(flaw: str, scenario: str, folder: Path) -> None:
    stage = Stage([sys.executable, str(BROKEN), flaw], folder, PATIENCE)
    async with stage.open():
        await stage.ready()
        await SCENARIOS[scenario](stage)


@pytest.mark.parametrize(("flaw", "scenario"), list(played()))
async def test_a_flaw_is_found_by_the_scenario_about_it(flaw: str, scenario: str, tmp_path: Path) -> None:
    if flaw in SOUND:
        return await play(flaw, scenario, tmp_path)
    with pytest.raises(pytest.fail.Exception, match=FLAWS[flaw][1]):
        await play(flaw, scenario, tmp_path)
