"""`python -m agentlightning_server`: one server on one database file. `agl store` is the same with more words."""

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from agentlightning_server.app import StartError, serve
from agentlightning_server.config import DEFAULT_PORT, Config, Keep
from agentlightning_server.storage.database import DatabaseError

_LAST_PORT = 65_535
_MOST_RUNS = 1_000_000_000
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
DEFAULT_DATABASE = Path(".agentlightning/store.db")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the way out."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"agl store: {message} (see agl store --help)\n")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = _Parser(
        prog="agl store",
        description="Serve a store on one database file, until told to stop.",
        epilog="example: agl store --db /data/store.db --host 0.0.0.0 --port 4747 --keep-days 30",
    )
    parser.add_argument("--db", type=Path, default=DEFAULT_DATABASE, help="the database file (default: %(default)s)")
    parser.add_argument(
        "--host", type=_host, default="127.0.0.1", help="the address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="the port; 0 for any free (default: %(default)s)"
    )
    parser.add_argument(
        "--keep-days",
        type=_days,
        metavar="N",
        help="delete rollouts that ended, and workers last heard of, N days ago or earlier (default: keep all)",
    )
    parser.add_argument(
        "--keep-runs", type=_count, metavar="N", help="delete rollouts of ended runs but the last N (default: keep all)"
    )
    parser.add_argument("--vacuum", action="store_true", help="make the file compact before serving it")
    parser.add_argument("--log-level", default="INFO", choices=_LEVELS, help="how much to say (default: %(default)s)")
    parser.add_argument("--clients-lock", type=Path, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Serve until told to stop; 1 when the server cannot start."""
    args = arguments().parse_args(argv)
    logging.basicConfig(level=args.log_level, format="%(asctime)s [%(levelname)s] %(message)s", stream=sys.stderr)
    config = Config(
        database=args.db.resolve(),  # a link is no other database
        host=args.host,
        port=args.port,
        clients_lock=args.clients_lock,
        keep=Keep(time=args.keep_days, runs=args.keep_runs),
        vacuum=args.vacuum,
    )
    try:
        asyncio.run(serve(config, on_ready=lambda address: _greet(address, config)))
    except (StartError, DatabaseError) as error:
        print(f"agl store: {error}", file=sys.stderr)
        return 1
    return 0


def _days(text: str) -> timedelta:
    with contextlib.suppress(ValueError, OverflowError):
        if (days := timedelta(days=float(text))) >= timedelta(0):
            return days
    raise argparse.ArgumentTypeError(f"{text!r} is no number of days, such as 30 or 0.5")


def _host(text: str) -> str:
    return text.removeprefix("[").removesuffix("]")  # in which IPv6 stands beside a port


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= _LAST_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to {_LAST_PORT}")


def _count(text: str) -> int:
    if text.isdecimal() and int(text) <= _MOST_RUNS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of runs, such as 10")


def _greet(address: str, config: Config) -> None:
    where = f"Store listening on {address}, keeping {config.database} (pid {os.getpid()})"
    # In one piece: whoever started this may read one line and close the pipe.
    sys.stdout.write(f"{where}\nLook inside: grpcurl -plaintext {address} list\n")
    sys.stdout.flush()
    if config.host not in ("127.0.0.1", "::1", "localhost"):
        logging.getLogger(__name__).warning("anyone who can reach %s can read and write this store", address)


if __name__ == "__main__":
    sys.exit(main())
