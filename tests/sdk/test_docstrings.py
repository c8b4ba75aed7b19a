"""The examples in the docstrings of what an agent or an algorithm is written with: there is one each, and they run."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = ["agentlightning.litagent", "agentlightning.algorithm", "agentlightning_algorithms.baseline"]
MODULES = [
    "agentlightning.litagent.function",
    "agentlightning.litagent.litagent",
    "agentlightning.types.dataset",
    "agentlightning.types.prompt_template",
    "agentlightning.types.resources",
    "agentlightning.algorithm.base",
    "agentlightning.algorithm.batching",
    "agentlightning.algorithm.evaluation",
    "agentlightning.algorithm.functional",
    "agentlightning_algorithms.baseline.baseline",
]
TYPES = "Dataset PaginatedResult tasks_of PromptTemplate LLM ProxyLLM CustomResource ResourcesUpdate as_resource"
NAMES = [(package, name) for package in PACKAGES for name in import_module(package).__all__]


@pytest.mark.parametrize(("package", "name"), [*NAMES, *(("agentlightning.types", name) for name in TYPES.split())])
def test_a_public_name_has_an_example(package: str, name: str) -> None:
    assert ">>> " in (getattr(import_module(package), name).__doc__ or "")


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_are_true(module: str, tmp_path: Path) -> None:
    outcome = doctest.testmod(import_module(module), extraglobs={"tmp_path": tmp_path}, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0
