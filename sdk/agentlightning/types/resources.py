"""What is tuned, as the SDK's users see it: prompt templates, LLM endpoints, and custom JSON, in named bundles."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from agentlightning.types.prompt_template import PromptTemplate
from agentlightning.types.rollout import AttemptedRollout


class LLM(BaseModel):
    """A model served by an OpenAI-compatible API.

    Example:
        >>> llm = LLM(endpoint="http://localhost:8000/v1", model="small", sampling_parameters={"temperature": 0})
        >>> llm.get_base_url("ro-1", "at-1")
        'http://localhost:8000/v1'
    """

    resource_type: Literal["llm"] = "llm"
    endpoint: str
    """The API's base URL."""
    model: str
    api_key: str | None = Field(default=None, repr=False)
    sampling_parameters: dict[str, Any] = Field(default_factory=dict)

    def get_base_url(self, rollout_id: str | None = None, attempt_id: str | None = None) -> str:
        """The base URL to give to the client."""
        return self.endpoint


class ProxyLLM(LLM):
    """A model behind a proxy that wants the rollout and the attempt in its path.

    Example:
        >>> llm = ProxyLLM(endpoint="http://localhost:9000/v1", model="small")
        >>> llm.get_base_url("ro-1", "at-1")
        'http://localhost:9000/rollout/ro-1/attempt/at-1/v1'
        >>> llm.get_base_url()
        'http://localhost:9000/v1'
    """

    resource_type: Literal["proxy_llm"] = "proxy_llm"  # type: ignore[assignment]

    def get_base_url(self, rollout_id: str | None = None, attempt_id: str | None = None) -> str:
        """The base URL for one attempt, or the bare one without ids.

        Raises:
            ValueError: When only one of the ids is given.
        """
        if rollout_id is None and attempt_id is None:
            return self.endpoint
        if not (isinstance(rollout_id, str) and isinstance(attempt_id, str)):
            raise ValueError("rollout_id and attempt_id must be strings or all be empty")
        base, version = re.fullmatch(r"(.*?)(/v1)?/*", self.endpoint).groups()  # type: ignore[union-attr]
        return f"{base}/rollout/{rollout_id}/attempt/{attempt_id}{version or ''}"

    def with_attempted_rollout(self, rollout: AttemptedRollout) -> LLM:
        """The plain model for one attempted rollout; agents that ask for `llm` are given that."""
        return LLM(
            endpoint=self.get_base_url(rollout.rollout_id, rollout.attempt.attempt_id),
            model=self.model,
            api_key=self.api_key,
            sampling_parameters=self.sampling_parameters,
        )


class CustomResource(BaseModel):
    """Anything else that is tuned, as JSON.

    Example:
        >>> CustomResource(value={"temperature": 0.5}).value["temperature"]
        0.5
    """

    resource_type: Literal["custom"] = "custom"
    value: Any


Resource = PromptTemplate | LLM | ProxyLLM | CustomResource
"""One thing that is tuned.

Example:
    >>> resource: Resource = LLM(endpoint="http://localhost:8000/v1", model="small")
    >>> isinstance(resource, Resource), resource.resource_type
    (True, 'llm')
"""

ResourceUnion = Annotated[Resource, Field(discriminator="resource_type")]
NamedResources = dict[str, ResourceUnion]
"""A bundle: what an agent asks for by name.

Example:
    >>> resources: NamedResources = {
    ...     "prompt_template": PromptTemplate(template="Hi {name}"),
    ...     "main_llm": LLM(endpoint="http://localhost:8000/v1", model="small"),
    ... }
    >>> sorted(asyncio.run(store.add_resources(resources)).resources)
    ['main_llm', 'prompt_template']
"""


class ResourcesUpdate(BaseModel):
    """One version of a named bundle. An (id, version) never changes.

    Example:
        >>> resources = {"prompt_template": PromptTemplate(template="Hi {name}")}
        >>> update = ResourcesUpdate(
        ...     resources_id="rs-1", version=1, create_time=0, update_time=0, resources=resources
        ... )
        >>> update.resources["prompt_template"].template
        'Hi {name}'
    """

    resources_id: str
    version: int
    create_time: float
    """When the first version of the id was made."""
    update_time: float
    """When this version was made."""
    resources: NamedResources
    run_id: str | None = None
    parent_resources_id: str | None = None
    """The resources that these were derived from. None: not said."""
    parent_version: int | None = None


def as_resource(value: object) -> Resource:
    """Take what users write for a resource: a resource, a plain string (an f-string template), or JSON-able data.

    Example:
        >>> as_resource("Hi {name}")
        PromptTemplate(resource_type='prompt_template', template='Hi {name}', engine='f-string')
        >>> as_resource([0.1, 0.2]).value
        [0.1, 0.2]
    """
    match value:
        case PromptTemplate() | LLM() | CustomResource():
            return value
        case str():
            return PromptTemplate(template=value)
        case _:
            return CustomResource(value=value)
