"""A simulated world is what it says: seeded, fair to whoever asks first, and its truth is what its rollouts come to."""

from statistics import fmean

import pytest
from apo.grammar import PLACEHOLDER, Rule, policy_of
from apo.worlds import DEVELOPMENT, REPORTED, SITES, Cell, World

PARTIAL, BINARY, INTERFERING = Cell(), Cell(binary=True), Cell(kind="interference")


def contradicting(world: World) -> str:
    lines = world.seed_prompt.splitlines()
    need = world.needs[0]
    extra = [str(Rule(need, code)) for code in world.options[need]]
    return "\n".join([*lines[:-1], *extra, *extra, lines[-1]])


@pytest.mark.parametrize("cell", [PARTIAL, BINARY, INTERFERING], ids=str)
@pytest.mark.parametrize("write", [lambda w: w.seed_prompt, lambda w: w.oracle_prompt, contradicting])
def test_the_expected_score_is_the_mean_of_many_rollouts(cell: Cell, write) -> None:
    world = World(3, cell)
    prompt, tasks = write(world), world.test[:50]
    tried = [world.attempt(prompt, task, draw).score for task in tasks for draw in range(60)]
    assert fmean(tried) == pytest.approx(world.expected_score(prompt, tasks), abs=0.025)


def test_a_rollout_comes_to_the_same_in_any_order() -> None:
    world, again = World(7, Cell(noise=0.15)), World(7, Cell(noise=0.15))
    tries = [(task, draw) for task in world.val for draw in range(3)]
    forth = [world.attempt(world.seed_prompt, task, draw) for task, draw in tries]
    back = [again.attempt(again.seed_prompt, task, draw) for task, draw in reversed(tries)]
    assert forth == back[::-1]


def test_the_seed_and_the_oracle_score_what_the_reference_worlds_did() -> None:
    worlds = [World(number) for number in range(2000, 2060)]
    assert fmean(world.true_score(world.seed_prompt) for world in worlds) == pytest.approx(0.378, abs=0.015)
    assert fmean(world.true_score(world.oracle_prompt) for world in worlds) == pytest.approx(0.902, abs=0.001)


def test_development_and_reported_worlds_are_apart() -> None:
    assert not set(DEVELOPMENT) & set(REPORTED)


def test_the_oracle_says_where_a_conflicting_need_has_which_code() -> None:
    world = World(0)
    conflicting = [need for need, codes in world.right.items() if len(set(codes.values())) > 1]
    policy = policy_of(world.oracle_prompt)
    assert len(conflicting) == 2
    assert all(policy.codes(need, site, "1") == [world.right[need][site]] for need in conflicting for site in SITES)


def test_more_validation_tasks_make_no_other_world() -> None:
    assert World(5, Cell(val=100)).test == World(5).test


def test_a_prompt_without_its_placeholder_fails_and_earns_nothing() -> None:
    world = World(1)
    prompt = world.oracle_prompt.replace(PLACEHOLDER, "the request")
    assert world.attempt(prompt, world.val[0], 0).is_failure
    assert world.true_score(prompt) == 0


def test_each_line_too_many_costs() -> None:
    world = World(1)
    lines = world.oracle_prompt.splitlines()
    longer = "\n".join([*lines[:-1], "Be kind.", "Be brief.", lines[-1]])
    assert world.true_score(longer) < world.true_score(world.oracle_prompt)


@pytest.mark.parametrize(
    ("feedback", "told", "kept"),
    [("rich", "expected=", "got="), ("symptom", "got=", "expected="), ("score", "SCORE", "WRONG")],
)
def test_the_metric_tells_no_more_than_the_cell_lets_it(feedback, told: str, kept: str) -> None:
    world = World(2, Cell(feedback=feedback))
    said = " ".join(world.attempt(world.seed_prompt, task, 0).feedback for task in world.val)
    assert told in said
    assert kept not in said


def test_a_deceptive_seed_earns_less_than_its_rules_are_many() -> None:
    world = World(4, Cell(kind="deceptive"))
    assert world.true_score(world.seed_prompt) == pytest.approx(World(4).true_score(World(4).seed_prompt), abs=0.02)
    assert len(policy_of(world.seed_prompt).rules) == 9


def test_in_a_hopeless_world_no_rule_is_worth_much() -> None:
    world = World(4, Cell(kind="hopeless"))
    assert world.true_score(world.oracle_prompt) < world.true_score(world.seed_prompt) + 0.2


def test_where_rules_interfere_the_oracle_leaves_out_what_does_harm() -> None:
    worlds = [World(number, INTERFERING) for number in range(20)]
    everything = [World(number).oracle_prompt for number in range(20)]
    scores = [
        (world.true_score(world.oracle_prompt), world.true_score(all_of_it))
        for world, all_of_it in zip(worlds, everything, strict=True)
    ]
    assert all(oracle >= rest for oracle, rest in scores)
    assert any(oracle > rest for oracle, rest in scores)
