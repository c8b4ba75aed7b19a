"""What users test their agents with when there is no network: a model server on loopback that answers as they say.

Knows nothing of rollouts and stores, and imports only the standard library.
"""

from agentlightning.testing.openai_server import ChatReply, ChatRequest, OpenAIServer

__all__ = ["ChatReply", "ChatRequest", "OpenAIServer"]
