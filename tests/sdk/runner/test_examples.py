"""The examples in the docstrings of what a runner is used with."""

import doctest

import pytest
from agentlightning.runner import Hook, LitAgentRunner, cancelled


@pytest.mark.parametrize("public", [Hook, LitAgentRunner, cancelled], ids=lambda public: public.__name__)
def test_a_public_name_has_an_example_and_it_runs(public: object, store_address: str) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(public, globs={"address": store_address})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
