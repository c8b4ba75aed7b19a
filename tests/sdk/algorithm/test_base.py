import agentlightning as agl
import pytest
from agentlightning.algorithm import Algorithm, Estimate


class Counting(Algorithm):
    def run(self, train_dataset=None, val_dataset=None):
        self.train_size = len(train_dataset)


class Waiting(Algorithm):
    async def run(self, train_dataset=None, val_dataset=None):
        self.ran = True


def test_run_may_be_a_plain_function() -> None:
    algorithm = Counting()
    algorithm([1, 2])
    assert not algorithm.is_async()
    assert algorithm.train_size == 2


async def test_run_may_be_a_coroutine_function() -> None:
    algorithm = Waiting()
    await algorithm()
    assert algorithm.is_async()
    assert algorithm.ran


@pytest.mark.parametrize(("getter", "way_out"), [("get_store", "set_store"), ("get_adapter", "Trainer")])
def test_a_getter_of_what_was_never_given_names_the_way_out(getter: str, way_out: str) -> None:
    with pytest.raises(agl.AlgorithmError, match=way_out):
        getattr(Counting(), getter)()


def test_the_adapter_is_kept_although_nobody_else_refers_to_it() -> None:
    algorithm = Counting()
    algorithm.set_adapter(agl.TraceToMessages())
    assert algorithm.get_adapter().adapt([]) == []


def test_resources_and_run_may_be_absent() -> None:
    assert Counting().get_initial_resources() is None
    assert Counting().get_run() is None


def test_an_algorithm_that_knows_nothing_says_so() -> None:
    algorithm = Counting()
    assert algorithm.estimate(10, 10) is None
    assert algorithm.get_best_resources() is None
    assert algorithm.summary() == {}


def test_progress_goes_to_whoever_asked() -> None:
    told = []
    algorithm = Counting()
    algorithm.notify("train", 1, 2)
    algorithm.progress = lambda *report: told.append(report)
    algorithm.notify("train", 2, 2)
    assert told == [("train", 2, 2)]


def test_an_estimate_has_no_optimizer_calls_unless_it_says_so() -> None:
    assert Estimate(rollouts=3) == Estimate(rollouts=3, optimizer_calls=0)
