import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["base", "call", "credit", "explanation", "messages", "triplet"])
def test_the_examples_of_the_documentation_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"agentlightning.adapter.{module}"), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0
