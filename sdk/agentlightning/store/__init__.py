"""The store as Python sees it, and the client that reaches it over gRPC."""

from agentlightning.store.base import LightningStore
from agentlightning.store.client import LightningStoreClient

__all__ = ["LightningStore", "LightningStoreClient"]
