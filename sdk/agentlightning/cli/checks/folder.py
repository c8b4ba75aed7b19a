"""The store that a folder holds: whose it is now, what was left of an earlier server, and whether there is room."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agentlightning.cli.checks.finding import Finding, Verdict
from agentlightning.cli.show.text import size
from agentlightning.store.embedded import DATABASE_NAME, address_of

_LITTLE, _TOO_LITTLE = 2 << 30, 200 << 20
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "lustre"})


def folder(path: Path) -> Iterator[Finding]:
    """Look at a folder before anything is started in it."""
    database = path / DATABASE_NAME
    if not database.exists():
        where = "fit makes one, or `agl store`; one elsewhere is named with --store HOST:PORT"
        yield Finding("folder", "ok", f"no store in {path.absolute()}", where)
        return
    log = database.with_name(f"{database.name}-wal")
    to_be_written = size(log.stat().st_size) if log.exists() else "nothing"
    what = f"{database.absolute()}: {size(database.stat().st_size)}, and {to_be_written} to be written back to it"
    yield Finding("folder", "ok", what)
    yield _rights(database)
    yield _holder(database)
    yield _room(path)
    if (kind := _file_system(path)) in _REMOTE:
        what = f"{path.absolute()} is on {kind}: SQLite's log and locks need a local disk"
        yield Finding("disk", "problem", what, "move it to a local disk and serve it from there with `agl store --db`")


def _rights(database: Path) -> Finding:
    if os.access(database, os.R_OK | os.W_OK) and os.access(database.parent, os.W_OK | os.X_OK):
        return Finding("rights", "ok", "this user may read and write it")
    return Finding("rights", "problem", f"this user may not write {database}", f"chown -R $USER {database.parent}")


def _holder(database: Path) -> Finding:
    process = _process(database)
    if address := address_of(database):
        return Finding("served", "ok", f"by process {process or '?'} at {address}")
    if process is None:
        return Finding("served", "ok", "by nobody now: a command or a Trainer starts a server when it needs one")
    what = f"by nobody now; process {process} was killed while it served it, and nothing acknowledged is lost"
    return Finding("served", "ok", f"{what}: the next server clears up")


def _process(database: Path) -> int | None:
    try:
        return int(json.loads(database.with_name(f"{database.name}.lock").read_text())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _room(path: Path) -> Finding:
    free = shutil.disk_usage(path).free
    verdict: Verdict = "problem" if free < _TOO_LITTLE else "warning" if free < _LITTLE else "ok"
    way_out = "make room, or `agl store --keep-days N` deletes what is old"
    return Finding("disk", verdict, f"{size(free)} free", "" if verdict == "ok" else way_out)


def _file_system(path: Path) -> str:
    """The kind of file system that a path is on, as far as this system says."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    for line in mounts:
        _, point, mounted, *_ = line.split(" ")
        if path.resolve().is_relative_to(point) and len(point) >= len(best):
            best, kind = point, mounted
    return kind
