"""What a system costs before it does anything: its import and its installation. Knows no server."""

import json
from collections.abc import Iterator
from pathlib import Path

from measure import Measured
from systems import output

_IMPORT = """
import time
began = time.perf_counter()
import agentlightning as agl
bare = time.perf_counter() - began
agl.LitAgent, agl.rollout, agl.Trainer, agl.LightningStoreClient
import json, pathlib
touched = time.perf_counter() - began
try:
    mib = int(pathlib.Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024
except OSError:
    mib = None
print(json.dumps({"seconds": touched, "bare_seconds": bare, "mib": mib}))
"""
_BROUGHT_BY_VENV = ("pip", "setuptools")
_SIZE = "import sysconfig; print(sysconfig.get_paths()['purelib'])"


def import_cost(python: Path, core: int | None) -> Measured:
    """Seconds and memory of a fresh interpreter that imports the package and touches what a first script does.

    That is `LitAgent`, `rollout`, `Trainer` and `LightningStoreClient` in both systems: ours loads each on first use,
    so that the bare import alone would flatter it.
    """
    values: dict[str, float | None] = json.loads(
        output([str(python), "-W", "ignore", "-c", _IMPORT], core).splitlines()[-1]
    )
    return Measured({name: value for name, value in values.items() if value is not None})


def install_cost(python: Path) -> Measured:
    """MiB and number of packages of an environment, without what any environment has."""
    folder = Path(output([str(python), "-c", _SIZE]).strip())
    mine = [entry for entry in folder.iterdir() if entry.name.partition("-")[0] not in _BROUGHT_BY_VENV]
    packages = sum(entry.name.endswith(".dist-info") for entry in mine)
    return Measured({"size": sum(map(_size, mine)) / (1 << 20), "packages": packages})


def _size(entry: Path) -> int:
    files: Iterator[Path] = entry.rglob("*") if entry.is_dir() else iter([entry])
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())
