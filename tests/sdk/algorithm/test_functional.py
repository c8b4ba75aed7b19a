import functools

import agentlightning as agl
import pytest
from agentlightning.algorithm import algo


@algo
async def all_of_it(*, store, adapter, initial_resources, train_dataset, val_dataset=None):
    """Answers what it was given."""
    return store, adapter, initial_resources, train_dataset, val_dataset


@algo
def only_validation(val_dataset):
    return len(val_dataset)


async def test_everything_is_given_by_the_name_of_the_parameter() -> None:
    store, adapter, resources = object(), object(), {"prompt": agl.PromptTemplate(template="Hi")}
    all_of_it.set_store(store)
    all_of_it.set_adapter(adapter)
    all_of_it.set_initial_resources(resources)
    assert await all_of_it.run([1], [2]) == (store, adapter, resources, [1], [2])


def test_a_function_is_given_nothing_that_it_does_not_ask_for() -> None:
    assert only_validation.run(val_dataset=[1, 2, 3]) == 3


@pytest.mark.parametrize("name", ["train_dataset", "val_dataset"])
def test_a_dataset_without_a_parameter_for_it_is_refused(name: str) -> None:
    @algo
    def neither() -> None: ...

    with pytest.raises(TypeError, match=f"{name} is given, but the algorithm 'neither' has no such parameter"):
        neither.run(**{name: [1]})


def test_a_function_that_asks_for_a_store_cannot_run_without_one() -> None:
    @algo
    def wants_store(store) -> None: ...

    with pytest.raises(agl.AlgorithmError, match="no store"):
        wants_store.run()


def test_calling_it_calls_the_function_as_it_was_written() -> None:
    @algo
    def join(train_dataset: str, val_dataset: str, between: str = "-") -> str:
        return train_dataset + between + val_dataset

    assert join("a", val_dataset="b", between="+") == "a+b"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda store, prompts: None, "asks for 'prompts', which it cannot be given; it may ask for store, adapter,"),
        (lambda *, llm_proxy: None, "asks for 'llm_proxy', .*; there is no LLM proxy: give the agent an LLM among"),
        (lambda store, /: None, "positional-only parameter 'store'"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_where_it_is_written(function, message: str) -> None:
    with pytest.raises(agl.AlgorithmError, match=message):
        algo(function)


def test_a_parameter_with_a_default_keeps_it() -> None:
    assert algo(lambda train_dataset, llm_proxy=None, *args, **kwargs: (llm_proxy, args, kwargs)).run([1]) == (
        None,
        (),
        {},
    )


def test_a_partial_function_has_the_name_of_the_function() -> None:
    async def search(store, prompts) -> None: ...

    algorithm = algo(functools.partial(search, prompts=["a"]))
    assert algorithm.__name__ == "search"
    assert algorithm.is_async()


def test_it_is_as_async_as_the_function_and_has_its_name_and_docstring() -> None:
    assert all_of_it.is_async()
    assert not only_validation.is_async()
    assert (all_of_it.__name__, all_of_it.__doc__) == ("all_of_it", "Answers what it was given.")


def test_it_needs_tasks_when_it_asks_for_a_dataset() -> None:
    assert only_validation.needs_tasks
    assert not algo(lambda store: None).needs_tasks
