"""A real server on a real socket with a real file, for every test that needs a store: as users have it."""

pytest_plugins = ["agentlightning.testing.fixtures"]
