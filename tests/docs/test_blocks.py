"""The Python of the documents runs as it stands there.

The blocks of a document that begin with exactly "```python" are, one after the other, one program, or one file of tests
if there are tests in it. A block that is not to run says more after the word.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentlightning.testing import ChatReply, ChatRequest, OpenAIServer

ROOT = Path(__file__).parents[2]
BOUND = 60.0
FENCE = "```"
PYTEST = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir=.", "-p", "no:cacheprovider"]
PYTEST += ["-W", "default"]  # as users have it: the clients of models are theirs, and seldom closed
LEFT_TO_THE_READER = {
    "README.md": (
        "how_good = lambda answer, task: float(answer == task['answer']); "
        "train_tasks = val_tasks = test_tasks = [{'question': 'What is 6 x 7?', 'answer': '42'}]"
    )
}
"""What the Python of a document takes as given, in one line."""


def program_of(document: Path) -> str:
    """The Python of a document, each line where it stands there, so that a traceback says where to look."""
    lines, block = [], None
    for line in document.read_text().splitlines():
        if line.startswith(FENCE):
            block = line.removeprefix(FENCE) if block is None else None
            line = ""
        lines.append(line if block == "python" else "")
    return "\n".join(lines)


DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if program_of(path).strip()]


def model(request: ChatRequest) -> ChatReply:
    """A model that does as it is told, and what a critic and an editor tell it."""
    asked = request.messages[0]["content"]
    if "<critique>" in asked:
        return ChatReply("{question} The number only.")
    if "number only" in asked:
        return ChatReply("42")
    return ChatReply("6 x 7 makes 42.")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """That of a user, but for the address of the model."""
    with OpenAIServer(model) as server:
        yield {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "none"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_python_of_a_document_runs(document: Path, environment: dict[str, str], tmp_path: Path) -> None:
    text = program_of(document)
    program = tmp_path / f"test_{document.stem}.py"
    program.write_text(LEFT_TO_THE_READER.get(document.name, "") + text)
    has_tests = re.search(r"^(async )?def test_", text, re.MULTILINE)
    command = [*(PYTEST if has_tests else [sys.executable]), program.name]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=BOUND)
    assert run.returncode == 0, run.stdout + run.stderr


def test_lines_stand_where_they_stand_in_the_document_and_marked_blocks_are_left_out(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("# Title\n```python\na = 1\n```\n```python of your own\nb = 2\n```\n```\nc\n```\n")
    assert program_of(document).rstrip() == "\n\na = 1"
