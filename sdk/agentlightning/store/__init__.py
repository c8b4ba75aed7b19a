"""The store as Python sees it, and the client that reaches it over gRPC."""

import os

# Read when grpc is first imported. A forked child makes no use of the calls in progress that it inherits (an agent's
# own children, for one), and gRPC's attempt to revive them there kills one child in ten.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from agentlightning.store.base import LightningStore, LightningStoreCapabilities, LightningStoreStatistics
from agentlightning.store.client import LightningStoreClient

__all__ = ["LightningStore", "LightningStoreCapabilities", "LightningStoreClient", "LightningStoreStatistics"]
