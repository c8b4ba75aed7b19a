"""The Python of the documents runs as it stands there.

The blocks that begin with exactly "```python" are, one after the other, one program, or one file of tests if there are
tests in it. A block that cannot run says so after the word.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOUND = 60.0
FENCE = "```"
PYTEST = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir=.", "-p", "no:cacheprovider"]
PYTEST += ["-W", "default"]  # as users have it: the clients of models are theirs, and seldom closed


def program_of(document: Path) -> str:
    """The Python of a document, each line where it stands there, so that a traceback says where to look."""
    lines, block = [], None
    for line in document.read_text().splitlines():
        if line.startswith(FENCE):
            block = line.removeprefix(FENCE) if block is None else None
            line = ""
        lines.append(line if block == "python" else "")
    return "\n".join(lines)


DOCUMENTS = [path for path in sorted((ROOT / "docs").glob("*.md")) if program_of(path).strip()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_python_of_a_document_runs(document: Path, tmp_path: Path) -> None:
    program = tmp_path / f"test_{document.stem}.py"
    program.write_text(program_of(document))
    has_tests = re.search(r"^(async )?def test_", program.read_text(), re.MULTILINE)
    command = PYTEST if has_tests else [sys.executable]
    run = subprocess.run([*command, program.name], cwd=tmp_path, capture_output=True, text=True, timeout=BOUND)
    assert run.returncode == 0, run.stdout + run.stderr
