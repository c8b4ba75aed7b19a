"""The store that a trainer works with: one that is there, or one of its own that it starts. Knows no training."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from agentlightning.store import LightningStoreClient
from agentlightning.store.embedded import EmbeddedStore
from agentlightning.trainer.fit.interruption import Interruption


@contextlib.contextmanager
def serving(
    store: LightningStoreClient | str | Path | None, folder: Path, port: int | None, interruption: Interruption
) -> Iterator[tuple[str, EmbeddedStore | None]]:
    """The address of the store to use, and the embedded store if it is one.

    Args:
        store: A client or an address of one that is there, or the folder or database file of one that is started.
        folder: Where one is started if none is said.
        port: Where it listens then. None: anywhere.
        interruption: What ends its start.
    """
    match store:
        case LightningStoreClient() as client:
            yield client.server_address, None
        case str() as address:
            yield address, None
        case place:
            path = place or folder
            is_file = path.suffix == ".db" or path.is_file()
            embedded = (
                EmbeddedStore(path.parent, name=path.name, port=port) if is_file else EmbeddedStore(path, port=port)
            )
            try:
                with interruption.raising():
                    embedded.start()
                yield embedded.address, embedded
            finally:
                embedded.stop()
