"""The store's server: asyncio gRPC on SQLite. Imports of ours: the generated `agentlightning.v1` and `semconv` only."""

import os

# gRPC's own lines on standard error say again, less well, what our errors and log say.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
