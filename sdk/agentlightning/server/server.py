"""A store served for one algorithm, as the early API has it: resources and tasks in, results out.

Knows no agent and no runner: `Trainer.fit(agent, backend=...)` brings these.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentlightning.errors import NotFoundError, StoreUnavailableError
from agentlightning.server.result import LitRollout, read_result
from agentlightning.store import LightningStoreClient
from agentlightning.store.embedded import DEFAULT_FOLDER, EmbeddedStore
from agentlightning.store.presence import until_gone
from agentlightning.types import RolloutConfig, RolloutMode

_log = logging.getLogger(__name__)
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
_MOST_ATTEMPTS = 3


class AgentLightningServer:
    """Serves a store at an address and queues tasks for the agents that connect to it.

    The store is a process of its own: it ends with this object's process, however that ends, and what it has
    acknowledged is in `folder` when it is started again. Other programs may use it meanwhile, in any language.

    Args:
        host: The address to listen on; `0.0.0.0` for all of this machine's, with no protection.
        port: The port; 0 for any free one.
        task_timeout_seconds: How long an agent may take for a task before another is given it, twice at most. None: any
            time.
        folder: Where the store is kept. One folder is served by one server at a time.
        debug: Whether the store says all that it does, on standard error.

    Example:
        >>> import asyncio
        >>> import agentlightning as agl
        >>> async def main():
        ...     server = agl.AgentLightningServer(port=0, folder=tmp_path)
        ...     await server.start()
        ...     await server.update_resources({"system_prompt": "Be brief."})
        ...     rollout_id = await server.queue_task({"prompt": "Why?"}, mode="train")
        ...     runner = agl.LitAgentRunner(max_rollouts=1)
        ...     with runner.run_context(agent=lambda task: 0.5, store=agl.LightningStoreClient(server.endpoint)):
        ...         await runner.iter()
        ...     rollout = await server.poll_completed_rollout(rollout_id, timeout=30)
        ...     await server.stop()
        ...     return rollout
        >>> asyncio.run(main()).final_reward
        0.5
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        task_timeout_seconds: float | None = 300.0,
        *,
        folder: str | Path = DEFAULT_FOLDER,
        debug: bool = False,
    ) -> None:
        self.host = host
        self.port = port
        self.folder = Path(folder)
        self._debug = debug
        self._config = RolloutConfig(
            timeout_seconds=task_timeout_seconds, max_attempts=_MOST_ATTEMPTS, retry_condition=["timeout"]
        )
        self._served: EmbeddedStore | None = None
        self._client: LightningStoreClient | None = None
        self._resources_id: str | None = None
        self._unread: dict[str, None] = {}

    @property
    def endpoint(self) -> str:
        """What programs on this machine connect to: `Trainer.fit(agent, backend=server.endpoint)`."""
        return self._store().server_address

    async def start(self) -> None:
        """Start to serve; return once calls are answered.

        Raises:
            StoreUnavailableError: The port is taken, or the folder is served already; the message says by whom.
        """
        served = EmbeddedStore(self.folder, host=self.host, port=self.port, join=False, debug=self._debug)
        address = await asyncio.to_thread(served.start)
        served.keep_running()
        host, _, port = address.rpartition(":")
        self._client = LightningStoreClient(f"http://{_EVERYWHERE.get(host, host)}:{port}")
        self._served = served
        _log.info("Serving %s at %s.", served.database, self.endpoint)

    async def stop(self) -> None:
        """End the server, unless other programs in its folder still use it. What it was told stays in the folder."""
        client, served = self._client, self._served
        self._client = self._served = None
        if client is not None:
            await client.close()
        if served is not None:
            await asyncio.to_thread(served.stop)

    async def run_forever(self) -> None:
        """Serve until cancelled; start first if that was not done.

        Raises:
            StoreUnavailableError: The store ended and could not be started again.
        """
        if self._client is None:
            await self.start()
        try:
            await until_gone(self._store())
        finally:
            await self.stop()

    async def update_resources(self, resources: Mapping[str, Any]) -> str:
        """Give these resources to the tasks that are queued from now on.

        Args:
            resources: The resources by name. A plain string is an f-string prompt template.

        Returns:
            Their id, for `queue_task`.
        """
        self._resources_id = (await self._store().add_resources(resources)).resources_id
        return self._resources_id

    async def queue_task(
        self,
        sample: Any,
        mode: RolloutMode | None = None,
        resources_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Queue a task for the agents that connect.

        Args:
            sample: The task: JSON, or an `AgentLightningTask`, a dataclass or a model.
            mode: `train` for an agent's `training_rollout`; else it is given to `validation_rollout`.
            resources_id: What `update_resources` returned. None: the last.
            metadata: The caller's own JSON about it.

        Returns:
            The rollout's id.
        """
        rollout = await self._store().enqueue_rollout(
            sample, mode, resources_id or self._resources_id, self._config, metadata
        )
        self._unread[rollout.rollout_id] = None
        return rollout.rollout_id

    async def get_completed_rollout(self, rollout_id: str) -> LitRollout | None:
        """The result of a task. None: there is none yet."""
        return await self._result(rollout_id, timeout=0)

    async def poll_completed_rollout(self, rollout_id: str, timeout: float | None = None) -> LitRollout | None:
        """Wait for the result of a task; it is pushed as it comes.

        Args:
            rollout_id: What `queue_task` returned.
            timeout: Seconds to wait. None: for ever.

        Returns:
            The result, or None when there was none in time.

        Raises:
            NotFoundError: There is no such task.
        """
        if await self._store().get_rollout_by_id(rollout_id) is None:
            raise NotFoundError(f"there is no rollout {rollout_id!r} in the store of {self.folder}")
        return await self._result(rollout_id, timeout)

    async def retrieve_completed_rollouts(self) -> list[LitRollout]:
        """The results, of tasks that this object queued, that no call has returned yet."""
        store = self._store()
        ended = await store.wait_for_rollouts(list(self._unread), timeout=0)
        results = [await read_result(store, rollout) for rollout in ended]
        for result in results:
            self._unread.pop(result.rollout_id, None)
        return results

    async def _result(self, rollout_id: str, timeout: float | None) -> LitRollout | None:
        store = self._store()
        ended = await store.wait_for_rollouts([rollout_id], timeout)
        if not ended:
            return None
        result = await read_result(store, ended[0])
        self._unread.pop(rollout_id, None)
        return result

    def _store(self) -> LightningStoreClient:
        if self._client is None:
            raise StoreUnavailableError("the server is not running: `await server.start()` first")
        return self._client
