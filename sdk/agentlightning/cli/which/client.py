"""Which store a command talks to: the one named, or this folder's."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from agentlightning.address import parse_address
from agentlightning.errors import InvalidRequestError, NotFoundError
from agentlightning.store import LightningStoreClient
from agentlightning.store.embedded import DATABASE_NAME, DEFAULT_FOLDER, EmbeddedStore

_RETRY_SECONDS = 5


def address(text: str) -> str:
    """The type of `--store`."""
    try:
        parse_address(text)
    except InvalidRequestError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no address of a store, such as localhost:4747 or grpcs://store.example.com:443"
        ) from None
    return text


@contextlib.contextmanager
def client_of(address: str | None) -> Iterator[LightningStoreClient]:
    """A client of the store named, or of this folder's, which is started for the command if nobody serves it.

    Raises:
        NotFoundError: None is named, and there is none in this folder.
    """
    if address is not None:
        yield LightningStoreClient(address, retry_seconds=_RETRY_SECONDS)
        return
    if not (DEFAULT_FOLDER / DATABASE_NAME).exists():
        raise NotFoundError(
            f"there is no store in {Path.cwd()}: go to the folder where you trained, or name one with --store HOST:PORT"
        )
    with EmbeddedStore(DEFAULT_FOLDER) as store:
        yield LightningStoreClient(store.address, retry_seconds=_RETRY_SECONDS)
