"""A watch outlives the server that it began with."""

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import agentlightning as agl


async def test_a_watch_goes_on_where_a_killed_server_broke_it_off(serve: Callable[..., Any]) -> None:
    server = serve()
    store = agl.LightningStoreClient(server.address)
    before = await store.enqueue_rollout("before")
    async with aclosing(store.watch()) as changes:
        assert (await anext(changes)).object == before
        server.kill()
        serve(port=server.port)
        after = await store.enqueue_rollout("after")
        assert (await anext(changes)).object == after
