"""The examples in the documentation: every public name has one, and all of them run.

They are read from the source, as their readers find them: a type alias or a constant has no docstring at run time, only
a string after its assignment. Each is given what begins a program that uses a store: `agl`, `asyncio`, and `store`, a
client of the store at `address`; what it writes goes to `tmp_path`.
"""

import ast
import asyncio
import doctest
import logging
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import agentlightning as agl
import agentlightning_algorithms
import pytest

ROOTS = [Path(package.__file__ or "").parent for package in (agl, agentlightning_algorithms)]
PACKAGES = ["agentlightning.algorithm", "agentlightning.emitter", "agentlightning.litagent", "agentlightning.testing"]
"""Those whose names are public too, without being names of `agentlightning` itself."""


def public_names() -> Iterator[tuple[str, str]]:
    """Each public name, after the module or package that it is imported from."""
    for node in ast.parse(Path(agl.__file__ or "").with_suffix(".pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
    for package in PACKAGES:
        yield from ((package, name) for name in import_module(package).__all__)


def documented(source: str) -> Iterator[tuple[str, str]]:
    """The classes, functions and constants of a module with what its author says of them."""
    tree = ast.parse(source)
    for node, after in pairwise([*tree.body, ast.Pass()]):
        match node, after:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef(), _:
                yield node.name, ast.get_docstring(node) or ""
            case ast.Assign(targets=targets), ast.Expr(value=ast.Constant(value=str(text))):
                yield from ((target.id, text) for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, text


def documentation(module: str, name: str) -> str:
    """What is said of a name where it is defined, which may not be where it is imported from."""
    source = Path(import_module(module).__file__ or "").read_text()
    homes = (
        node.module or ""
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom) and name in (alias.name for alias in node.names)
    )
    said = dict(documented(source))
    return said[name] if name in said else next((documentation(home, name) for home in homes), "")


def module_name(file: Path) -> str:
    root = next(root for root in ROOTS if root in file.parents)
    return ".".join(file.relative_to(root.parent).with_suffix("").parts)


MODULES = {module_name(file): file for root in ROOTS for file in root.rglob("*.py") if ">>> " in file.read_text()}


@pytest.fixture(autouse=True)
def logging_left_as_found() -> Iterator[None]:
    logger = logging.getLogger("agentlightning")
    level, propagate = logger.level, logger.propagate
    yield
    agl.setup_logging(level, console=False, propagate=propagate)


@pytest.mark.parametrize(("module", "name"), sorted({*public_names()}))
def test_a_public_name_has_an_example(module: str, name: str) -> None:
    assert ">>> " in documentation(module, name), f"{name} has no example: write one where it is defined"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_examples_of_a_module_are_true(
    module: str, store: agl.LightningStoreClient, store_address: str, tmp_path: Path
) -> None:
    given = {"agl": agl, "asyncio": asyncio, "store": store, "address": store_address, "tmp_path": tmp_path}
    names = given | vars(import_module(module))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            text, line = node.value.value, node.lineno - 1
            example = doctest.DocTestParser().get_doctest(text, names, module, str(MODULES[module]), line)
            runner.run(example)
    assert runner.tries > 0
    assert runner.failures == 0
