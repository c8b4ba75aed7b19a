"""The commands of docs/grpcurl.md run as they stand there, from top to bottom, and print what the page shows.

The ids of the page stand for those of the test's store, in commands too.
`AGL_UPDATE_DOCS=1` writes what was printed over what the page shows where they differ; shorten it again by hand.
"""

import difflib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentlightning.cli.program import parser as commands
from agentlightning.testing import TemporaryStore

from .shown import Names, as_shown, matches
from .story import tell

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/grpcurl.md"
PATTERN = re.compile(r"^```sh\n(.*?)^```$(?:\n\n```(text|json)\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
ADDRESS = "localhost:4747"
FOLDER = "/data"
BOUND = 30.0


@dataclass
class Block:
    """A command of the page and what the page shows of its output.

    Attributes:
        title: The heading above it.
        place: Where its output stands in the page: begin and end.
    """

    title: str
    command: str
    kind: str
    shown: str
    place: tuple[int, int]


@dataclass
class Outcome:
    """What became of a command, with the page's ids where it is known for which they stand."""

    printed: str
    is_as_shown: bool


def blocks_of(page: str) -> list[Block]:
    found = []
    for block in PATTERN.finditer(page):
        title = re.findall(r"^#+ (.*)$", page[: block.start()], re.MULTILINE)[-1]
        found.append(Block(title, block[1], block[2] or "text", block[3] or "", block.span(3)))
    return found


class Session:
    """A shell beside the page's store, in an empty folder but for the contract."""

    def __init__(self, folder: Path, store: TemporaryStore, tools: Path) -> None:
        (folder / "proto").symlink_to(ROOT / "proto")
        self._folder = folder
        self._store = store
        self._environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        self._names = Names()

    def run(self, block: Block) -> Outcome:
        printed = self._execute(self._names.to_actual(block.command).replace(ADDRESS, self._store.address))
        printed = printed.replace(self._store.address, ADDRESS).replace(str(self._store.folder), FOLDER)
        printed = as_shown(block.kind, printed)
        is_as_shown = matches(self._names, block.shown, printed)
        return Outcome(self._names.to_shown(printed), is_as_shown)

    def _execute(self, command: str) -> str:
        """What it prints, errors too."""
        bash: dict[str, Any] = {"args": ["bash", "-c", command], "cwd": self._folder, "env": self._environment}
        run = subprocess.run(**bash, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BOUND)
        return run.stdout


BLOCKS = blocks_of(DOCUMENT.read_text())


@pytest.fixture(scope="module")
def outcomes(built: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """What became of the page's commands, one after the other."""
    tools = built(".tools/bin/grpcurl").parent
    if not shutil.which("jq"):
        pytest.skip("there is no jq here")
    with TemporaryStore() as store:
        with grpc.insecure_channel(store.address) as channel:
            tell(channel)
        session = Session(tmp_path_factory.mktemp("operator"), store, tools)
        outcomes = [session.run(block) for block in BLOCKS]
    if os.environ.get("AGL_UPDATE_DOCS"):
        update(outcomes)
    return outcomes


def update(outcomes: list[Outcome]) -> None:
    """Write what was printed into the page, where that is not what it shows."""
    page = DOCUMENT.read_text()
    for block, outcome in reversed(list(zip(BLOCKS, outcomes, strict=True))):
        if not outcome.is_as_shown and block.place[0] >= 0:
            page = page[: block.place[0]] + outcome.printed + page[block.place[1] :]
    DOCUMENT.write_text(page)


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=lambda number: f"{number}-{BLOCKS[number].title}")
def test_a_command_of_the_page_prints_what_the_page_shows(number: int, outcomes: list[Outcome]) -> None:
    block, outcome = BLOCKS[number], outcomes[number]
    if not outcome.is_as_shown:
        texts = (block.shown.splitlines(), outcome.printed.splitlines())
        diff = difflib.unified_diff(*texts, "what docs/grpcurl.md shows", "what is printed", lineterm="")
        pytest.fail("\n".join([block.command, *diff]), pytrace=False)


LINES_OF_AGL = re.findall(r"`agl (?!store)(.*?)`", DOCUMENT.read_text().split("## The same with agl")[1])


@pytest.mark.parametrize("line", LINES_OF_AGL)
def test_what_agl_would_do_instead_is_a_command_of_it(line: str) -> None:
    commands().parse_args(shlex.split(line))
