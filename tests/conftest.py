"""A real server on a real socket with a real file, for every test that needs a store: as users have it."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["agentlightning.testing.fixtures"]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def built() -> Callable[[str], Path]:
    """Where something in another language was built, by its path in the checkout; skips the test where it was not."""

    def find(path: str) -> Path:
        if not (ROOT / path).exists():
            pytest.skip(f"{path} is not built: `make others` does, where its toolchain is")
        return ROOT / path

    return find
