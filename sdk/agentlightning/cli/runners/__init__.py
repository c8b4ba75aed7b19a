"""The processes of `agl runner`, kept up, and what they are told. Knows nothing of their work."""
