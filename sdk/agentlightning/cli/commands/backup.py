"""`agl backup`: a consistent copy of the store, while others write."""

import argparse
import shutil
from pathlib import Path
from typing import Any

from agentlightning.cli.show import output
from agentlightning.errors import AgentLightningError
from agentlightning.store import LightningStoreClient
from agentlightning.types import Backup


class BackupError(AgentLightningError):
    """The copy cannot be where it was asked for."""


def add_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to those of a parser."""
    parser = commands.add_parser(
        "backup",
        parents=[common],
        help="copy the store to a file",
        description="Copy the store to a file while others go on using it. The copy is whole and is served as any "
        "other: agl store --db FILE. A store on another machine keeps the copy there, beside its database.",
        epilog="example: agl backup before-cleanup.db",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="where to; not yet there")
    parser.set_defaults(coroutine=back_up)


async def back_up(client: LightningStoreClient, arguments: argparse.Namespace) -> int:
    """Have the store copy itself, and bring the copy to where it was asked for.

    Raises:
        BackupError: The file is there already, or the copy is on another machine.
    """
    _check(arguments.file)
    copy = await client.backup()
    _bring(copy, arguments.file)
    if arguments.json:
        output.print_json({"path": str(arguments.file), "size_bytes": copy.size_bytes})
    else:
        print(f"{arguments.file}  {copy.size_bytes} bytes")
    return 0


def _check(file: Path) -> None:
    if file.exists():
        raise BackupError(f"{file} is there already: name another file")
    if not file.absolute().parent.is_dir():
        raise BackupError(f"there is no folder {file.absolute().parent}: make it, or name another file")


def _bring(copy: Backup, file: Path) -> None:
    made = Path(copy.path)
    if not made.is_file() or made.stat().st_size != copy.size_bytes:
        raise BackupError(f"the copy is {copy.path} on the machine of the store, which is not this one: fetch it there")
    shutil.move(made, file)
