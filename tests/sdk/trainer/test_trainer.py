"""`Trainer.fit` as a script calls it: what it gives, what it leaves behind, and what goes wrong in words."""

from collections.abc import Callable
from typing import Any

import agentlightning as agl
import pytest
from agentlightning.store.embedded import address_of

Start = Callable[..., Any]


def test_a_script_without_a_main_guard_trains_in_processes(start: Start) -> None:
    training = start(agent="print('pid', os.getpid())")
    assert training.finish() == 0
    assert "REWARDS [8.0, 8.0]" in training.output
    assert "share this process" not in training.output


def test_nothing_is_left_behind(start: Start) -> None:
    training = start()
    assert training.finish() == 0
    assert training.left_over() == []
    assert address_of(training.folder / ".agentlightning" / "store.db") is None


def test_the_first_rollout_is_shown_before_any_other_is_spent(start: Start) -> None:
    training = start(fit="trainer.fit(agent, ['a', 'b'])")
    training.finish()
    assert "check: ro-" in training.output.partition("TRAINING")[0]


def test_a_broken_agent_costs_one_call_and_is_shown_with_its_traceback(start: Start) -> None:
    training = start(agent="print('CALLED'); raise ValueError('no room at the inn')")
    assert training.finish() == 1
    assert "AgentCheckError: the first rollout failed with ValueError: no room at the inn" in training.output
    assert training.output.count("CALLED\n") == 1
    assert training.left_over() == []


def test_an_agent_without_a_reward_is_refused(start: Start) -> None:
    training = start(agent="return None")
    assert training.finish() == 1
    assert "the first rollout has no reward" in training.output


def test_a_missing_resource_is_named_with_those_that_are_there(start: Start) -> None:
    training = start(
        fit="trainer.fit(lambda task, judge_prompt: 1.0, ['a'])",
    )
    assert training.finish() == 1
    assert "judge_prompt" in training.output
    assert "'prompt_template'" in training.output


def test_fit_works_twice_and_inside_a_running_loop_and_in_a_thread(start: Start) -> None:
    fit = """
trainer.fit(agent, ['a'])
import asyncio
async def main():
    trainer.fit(agent, ['b'])
asyncio.run(main())
import threading
thread = threading.Thread(target=trainer.fit, args=(agent, ['c']))
thread.start()
thread.join()
"""
    training = start(fit=fit)
    assert training.finish() == 0
    assert training.output.count("REWARDS [8.0]") == 3
    assert training.output.count("share this process") == 2


def test_two_trainers_in_one_folder_share_a_store_and_no_work(start: Start) -> None:
    first = start(agent="task == 'b' and not os.path.exists('go') and time.sleep(0.5)")
    second = start()
    assert (first.finish(), second.finish()) == (0, 0)
    for training in (first, second):
        assert "REWARDS [8.0, 8.0]" in training.output
    assert first.left_over() == []


def test_dev_runs_the_agent_in_this_process_and_learns_nothing(start: Start) -> None:
    training = start(agent="print('IN', os.getpid())", fit="print('MAIN', os.getpid()); trainer.dev(agent, ['a'])")
    assert training.finish() == 0
    main, agent = (training.output.partition(f"{word} ")[2].split()[0] for word in ("MAIN", "IN"))
    assert main == agent


@pytest.mark.parametrize("options", ["n_runners=-1", "max_concurrency=0", "algorithm=42"])
def test_a_setting_that_cannot_be_is_refused_by_name(options: str) -> None:
    with pytest.raises(agl.TrainerError, match=options.partition("=")[0]):
        agl.Trainer(**eval(f"dict({options})"))


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(agl.AlgorithmError, match="train_dataset"):
        agl.Trainer().fit(lambda task: 1.0, [])


@pytest.mark.parametrize("strategy", ["processes", "threads"])
def test_hooks_are_called_around_the_rollouts_of_all_runners(start: Start, strategy: str) -> None:
    training = start(
        fit="class Saying(agl.Hook):\n"
        "    async def on_rollout_end(self, *, spans, **_):\n"
        "        print('HOOK', len(spans), flush=True)\n"
        f"agl.Trainer(hooks=Saying(), strategy='{strategy}').fit(lambda task: 1.0, ['a', 'b'])"
    )
    assert training.finish() == 0
    assert training.output.count("HOOK 2\n") == 3


def test_what_is_no_hook_is_refused_before_anything_starts() -> None:
    with pytest.raises(agl.TrainerError, match=r"hooks\[0\] is 42"):
        agl.Trainer(hooks=[42])
