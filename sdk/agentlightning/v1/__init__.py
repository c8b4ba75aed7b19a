"""Generated from proto/agentlightning/v1 by `make proto`: never edited."""
