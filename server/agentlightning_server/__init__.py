"""The store's server: asyncio gRPC on SQLite. Imports of ours: the generated `agentlightning.v1` and `semconv` only."""
