"""What users test their agents with: a store that leaves nothing behind, time that they move, a model on loopback.

Knows no test framework; `agentlightning.testing.fixtures` has the same for pytest.
"""

from agentlightning.testing.clock import FakeClock
from agentlightning.testing.openai_server import ChatReply, ChatRequest, Fault, OpenAIServer
from agentlightning.testing.store import TemporaryStore

__all__ = ["ChatReply", "ChatRequest", "FakeClock", "Fault", "OpenAIServer", "TemporaryStore"]
