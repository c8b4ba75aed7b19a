from collections import Counter
from random import Random

import pytest
from agentlightning_algorithms.apo.candidate import draw_waves


@pytest.mark.parametrize(
    ("tasks", "batch_size", "count", "batches_per_wave"),
    [(28, 4, 4, [4]), (28, 4, 16, [7, 7, 2]), (5, 4, 3, [1, 1, 1]), (3, 4, 2, [1, 1]), (8, 4, 2, [2])],
)
def test_no_task_comes_twice_in_a_wave(tasks: int, batch_size: int, count: int, batches_per_wave: list[int]) -> None:
    waves = draw_waves(Random(0), range(tasks), batch_size=batch_size, count=count)
    assert [len(wave) for wave in waves] == batches_per_wave
    for wave in waves:
        assert {len(batch) for batch in wave} == {min(batch_size, tasks)}
        assert max(Counter(task for batch in wave for task in batch).values()) == 1


def test_waves_depend_on_the_seed_alone() -> None:
    first, second, other = (
        draw_waves(Random(seed), range(28), batch_size=4, count=10) for seed in ("same", "same", "other")
    )
    assert first == second != other
