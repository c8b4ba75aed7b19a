import doctest
import importlib
import pkgutil

import agentlightning.testing
import pytest

MODULES = [module.name for module in pkgutil.iter_modules(agentlightning.testing.__path__, "agentlightning.testing.")]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_the_documentation_run(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
