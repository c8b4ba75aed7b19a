"""`python -m agentlightning_server`: one server on one database file. `agl store` is the same with more words."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from agentlightning_server.app import StartError, serve
from agentlightning_server.config import DEFAULT_PORT, Config
from agentlightning_server.storage.database import DatabaseError

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
DEFAULT_DATABASE = Path(".agentlightning/store.db")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="agl store", description="Serve a store on one database file.")
    parser.add_argument("--db", type=Path, default=DEFAULT_DATABASE, help="the database file (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="the port; 0 for any free (default: %(default)s)"
    )
    parser.add_argument("--log-level", default="INFO", choices=_LEVELS, help="how much to say (default: %(default)s)")
    parser.add_argument("--clients-lock", type=Path, help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Serve until told to stop; 1 when the server cannot start."""
    args = arguments().parse_args(argv)
    logging.basicConfig(level=args.log_level, format="%(asctime)s [%(levelname)s] %(message)s", stream=sys.stderr)
    config = Config(database=args.db.absolute(), host=args.host, port=args.port, clients_lock=args.clients_lock)
    try:
        asyncio.run(serve(config, on_ready=lambda address: _greet(address, config)))
    except (StartError, DatabaseError) as error:
        print(f"agl store: {error}", file=sys.stderr)
        return 1
    return 0


def _greet(address: str, config: Config) -> None:
    where = f"Store listening on {address}, keeping {config.database} (pid {os.getpid()})"
    # In one piece: whoever started this may read one line and close the pipe.
    sys.stdout.write(f"{where}\nLook inside: grpcurl -plaintext {address} list\n")
    sys.stdout.flush()
    if config.host not in ("127.0.0.1", "::1", "localhost"):
        logging.getLogger(__name__).warning("anyone who can reach %s can read and write this store", address)


if __name__ == "__main__":
    sys.exit(main())
