"""Whether a store is still there, noticed as its connection breaks: nothing is asked on a timer."""

from contextlib import aclosing
from typing import NoReturn

from agentlightning.errors import InvalidRequestError
from agentlightning.store.base import LightningStore

_QUEUE_OF_NOBODY = "nobody"


async def until_gone(store: LightningStore) -> NoReturn:
    """Wait for as long as a store is there, across breaks of the connection and restarts of it.

    Raises:
        StoreUnavailableError: The store could not be reached for the client's `retry_seconds`.
    """
    while True:
        revision = (await store.statistics())["revision"]
        try:
            async with aclosing(store.watch(revision, queue=_QUEUE_OF_NOBODY)) as changes:
                async for _ in changes:
                    pass  # what changes is nothing to us: the stream is, that breaks
        except InvalidRequestError as error:
            if error.reason != "REVISION_OUT_OF_RANGE":
                raise
            # Another database is served there now, which has not come as far.
