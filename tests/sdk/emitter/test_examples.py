import doctest
import importlib
import inspect
import pkgutil

import agentlightning.emitter
import pytest

MODULES = [module.name for module in pkgutil.iter_modules(agentlightning.emitter.__path__, "agentlightning.emitter.")]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_the_documentation_run(module) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("name", agentlightning.emitter.__all__)
def test_every_public_name_has_an_example(name) -> None:
    public = getattr(agentlightning.emitter, name)
    documented = [public, *(vars(public).values() if inspect.isclass(public) else ())]
    assert any(">>>" in (getattr(item, "__doc__", None) or "") for item in documented)
