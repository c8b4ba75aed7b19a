"""What the early API calls a task and a resource."""

from pydantic import BaseModel

from agentlightning.types.resources import Resource


class AgentLightningTask(BaseModel):
    """A task in words. An agent whose task is annotated with it is given one, wherever it runs.

    Example:
        >>> task = AgentLightningTask(name="Addition", context="Add 10 and 5")
        >>> task.context
        'Add 10 and 5'
    """

    name: str
    context: str


AgentResource = Resource
"""What the early API calls a resource: an LLM, a prompt template, or anything else as JSON.

Example:
    >>> from agentlightning import PromptTemplate
    >>> isinstance(PromptTemplate(template="Be brief."), AgentResource)
    True
"""
