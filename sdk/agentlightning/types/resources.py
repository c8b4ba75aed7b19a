"""What is tuned, as the SDK's users see it: prompt templates, LLM endpoints, and custom JSON, in named bundles."""

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from agentlightning.errors import PromptTemplateError

_SUFFIX_OF_ENGINE = {"f-string": ".txt", "jinja": ".jinja", "poml": ".poml"}
_JINJA_NAME = re.compile(r"{{-?\s*(\w+)")


class PromptTemplate(BaseModel):
    """An instruction with placeholders."""

    resource_type: Literal["prompt_template"] = "prompt_template"
    template: str
    engine: Literal["jinja", "f-string", "poml"] = "f-string"
    """How placeholders are written: `{name}` or `{{ name }}`. POML is stored but rendered by the agent."""

    @property
    def placeholders(self) -> frozenset[str]:
        """The names to be filled in.

        Raises:
            PromptTemplateError: When the template is not well-formed.
        """
        if self.engine == "f-string":
            return frozenset(_field_names(self.template))
        return frozenset(_JINJA_NAME.findall(self.template))

    def format(self, **values: object) -> str:
        """Fill in the placeholders.

        Raises:
            PromptTemplateError: When a placeholder has no value (both are named), or the template is not well-formed.
        """
        match self.engine:
            case "f-string":
                missing = sorted(self.placeholders - values.keys())
                if missing:
                    raise PromptTemplateError(
                        f"the template asks for {_quoted(missing)}, but only {_quoted(sorted(values)) or 'nothing'} "
                        "is given; write {{ and }} for braces that are not placeholders"
                    )
                return self.template.format(**values)
            case "jinja":
                return _render_jinja(self.template, values)
            case engine:
                raise PromptTemplateError(f"engine {engine!r} is rendered by the agent: use .template")

    def save(self, path: str | Path) -> Path:
        """Write the template to a file as it is, with the suffix of its engine added where there is none.

        Returns:
            The file.
        """
        path = Path(path)
        path = path if path.suffix else path.with_suffix(_SUFFIX_OF_ENGINE[self.engine])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.template, encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> "PromptTemplate":
        """Read a template from a file; its suffix (`.txt`, `.jinja`, `.poml`) tells the engine.

        Raises:
            PromptTemplateError: When the file cannot be read.
        """
        engines: dict[str, Literal["jinja", "f-string", "poml"]] = {".jinja": "jinja", ".j2": "jinja", ".poml": "poml"}
        try:
            return cls(
                template=Path(path).read_text(encoding="utf-8"), engine=engines.get(Path(path).suffix, "f-string")
            )
        except OSError as error:
            raise PromptTemplateError(f"cannot read the prompt template {str(path)!r}: {error.strerror}") from error


class LLM(BaseModel):
    """A model served by an OpenAI-compatible API."""

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
    """A model behind a proxy that wants the rollout and the attempt in its path."""

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

    def with_attempted_rollout(self, rollout: Any) -> LLM:
        """The plain model for one attempted rollout."""
        return LLM(
            endpoint=self.get_base_url(rollout.rollout_id, rollout.attempt.attempt_id),
            model=self.model,
            api_key=self.api_key,
            sampling_parameters=self.sampling_parameters,
        )


class CustomResource(BaseModel):
    """Anything else that is tuned, as JSON."""

    resource_type: Literal["custom"] = "custom"
    value: Any


Resource = PromptTemplate | LLM | ProxyLLM | CustomResource
ResourceUnion = Annotated[Resource, Field(discriminator="resource_type")]
NamedResources = dict[str, ResourceUnion]
"""A bundle: what an agent asks for by name."""


class ResourcesUpdate(BaseModel):
    """One version of a named bundle. An (id, version) never changes."""

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
    """Take what users write for a resource: a resource, a plain string (an f-string template), or JSON-able data."""
    match value:
        case PromptTemplate() | LLM() | CustomResource():
            return value
        case str():
            return PromptTemplate(template=value)
        case _:
            return CustomResource(value=value)


def _field_names(template: str) -> list[str]:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise PromptTemplateError(
            f"the template is not well-formed: {error}; write {{{{ and }}}} for braces"
        ) from error
    unnamed = [name for name in fields if not name or name[0].isdigit()]
    if unnamed:
        raise PromptTemplateError(
            "the template has a placeholder without a name: write {name}, or {{ and }} for braces"
        )
    return [re.split(r"[.\[]", name)[0] for name in fields]


def _render_jinja(template: str, values: Mapping[str, object]) -> str:
    try:
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import SandboxedEnvironment
    except ImportError as error:
        raise PromptTemplateError("engine 'jinja' needs jinja2: pip install 'agl-protocol[jinja]'") from error
    try:
        return str(SandboxedEnvironment(undefined=StrictUndefined).from_string(template).render(values))
    except TemplateError as error:
        raise PromptTemplateError(
            f"the template cannot be rendered: {error}; given: {_quoted(sorted(values))}"
        ) from error


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
