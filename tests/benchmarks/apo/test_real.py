"""A whole package in a simulated world: what the referee counts is what a real store and real runners did."""

from dataclasses import asdict, replace

from apo import real
from apo.peer_port import PeerSettings
from apo.worlds import Cell


def test_our_apo_is_counted_through_a_store_and_runners() -> None:
    settings = asdict(PeerSettings(beam_width=1, branch_factor=1, val_batch_size=4, beam_rounds=1))
    result = real.run(replace(real.our_package(), settings=settings), 3, Cell())
    check_of_the_agent = 1
    rollouts = check_of_the_agent + 28 + 4 + 2 * 4 + 28
    assert result.rollouts == rollouts
    assert result.calls == {"sim-task": rollouts, "sim-judge": rollouts, "sim-critic": 1, "sim-editor": 1}
    assert result.curve[-1].reported is not None
