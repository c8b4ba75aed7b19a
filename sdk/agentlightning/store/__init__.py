"""The store as Python sees it, and the client that reaches it over gRPC."""

from agentlightning.store.base import LightningStore, LightningStoreCapabilities, LightningStoreStatistics
from agentlightning.store.client import LightningStoreClient

__all__ = ["LightningStore", "LightningStoreCapabilities", "LightningStoreClient", "LightningStoreStatistics"]
