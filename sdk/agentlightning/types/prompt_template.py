"""Prompt templates: how placeholders are written, found and filled in. Knows no agent and no store."""

import re
import string
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from agentlightning.errors import PromptTemplateError

Engine = Literal["jinja", "f-string", "poml"]

_SUFFIX_OF_ENGINE: dict[Engine, str] = {"f-string": ".txt", "jinja": ".jinja", "poml": ".poml"}
_ENGINE_OF_SUFFIX: dict[str, Engine] = {".jinja": "jinja", ".j2": "jinja", ".poml": "poml"}
_IN_BRACES = re.compile(r"{{-?\s*(\w+)")


class PromptTemplate(BaseModel):
    """An instruction with placeholders.

    Example:
        >>> prompt = PromptTemplate(template="Find a room for {attendees} at {time}; answer as {{'id': ...}}.")
        >>> prompt.format(attendees=4, time="10:00", color="any")
        "Find a room for 4 at 10:00; answer as {'id': ...}."
        >>> prompt.format(attendees=4)
        Traceback (most recent call last):
        ...
        agentlightning.errors.PromptTemplateError: the template asks for 'time', but only 'attendees' is given; ...
    """

    resource_type: Literal["prompt_template"] = "prompt_template"
    template: str
    engine: Engine = "f-string"
    """How placeholders are written: `{name}` or `{{ name }}`. POML is stored but rendered by the agent."""

    @property
    def placeholders(self) -> frozenset[str]:
        """The names to be filled in.

        Raises:
            PromptTemplateError: When the template is not well-formed.

        Example:
            >>> sorted(PromptTemplate(template="{room.id:>{width}} is free").placeholders)
            ['room', 'width']
        """
        match self.engine:
            case "f-string":
                return frozenset(_field_names(self.template))
            case "jinja":
                return _jinja_names(self.template)
            case _:
                return frozenset(_IN_BRACES.findall(self.template))

    def format(self, /, **values: object) -> str:
        """Fill in the placeholders.

        Raises:
            PromptTemplateError: When a placeholder has no value (both are named), a value does not suit its
                placeholder, or the template is not well-formed.

        Example:
            >>> PromptTemplate(template="{price:.2f} for {room[name]}").format(price=2, room={"name": "Nova"})
            '2.00 for Nova'
        """
        match self.engine:
            case "f-string":
                return _fill_in(self.template, self.placeholders, values)
            case "jinja":
                return _render_jinja(self.template, values)
            case engine:
                raise PromptTemplateError(f"engine {engine!r} is rendered by the agent: use .template")

    def save(self, path: str | Path) -> Path:
        """Write the template to a file as it is, with the suffix of its engine added where there is none.

        Returns:
            The file.

        Example:
            >>> PromptTemplate(template="Hi {name}").save(tmp_path / "greeting").name
            'greeting.txt'
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

        Example:
            >>> path = PromptTemplate(template="Hi {{ name }}", engine="jinja").save(tmp_path / "greeting")
            >>> PromptTemplate.load(path).engine
            'jinja'
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise PromptTemplateError(f"cannot read the prompt template {str(path)!r}: {error.strerror}") from error
        return cls(template=text, engine=_ENGINE_OF_SUFFIX.get(path.suffix, "f-string"))


def _fill_in(template: str, placeholders: Iterable[str], values: Mapping[str, Any]) -> str:
    if missing := sorted(set(placeholders) - values.keys()):
        raise PromptTemplateError(
            f"the template asks for {_quoted(missing)}, but only {_quoted(values)} is given; write {{{{ and }}}} for "
            "braces that are not placeholders"
        )
    try:
        return template.format(**values)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _unsuitable(error, values) from error


def _field_names(template: str) -> Iterator[str]:
    try:
        fields = [(name, spec or "") for _, name, spec, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise PromptTemplateError(
            f"the template is not well-formed: {error}; write {{{{ and }}}} for braces"
        ) from error
    for name, spec in fields:
        yield _base_of(name)
        yield from _field_names(spec)


def _base_of(field: str) -> str:
    if not field or field[0].isdigit():
        raise PromptTemplateError(
            "the template has a placeholder without a name: write {name}, or {{ and }} for braces"
        )
    if "._" in field:  # A template may be written by a model, and must not reach for what is behind a value.
        raise PromptTemplateError(f"the placeholder {field!r} asks for a private attribute; ask for a public one")
    return re.split(r"[.\[]", field)[0]


def _jinja_names(template: str) -> frozenset[str]:
    """The variables of the template; without jinja2, where nothing can be rendered, those that stand in braces."""
    try:
        from jinja2 import TemplateSyntaxError, meta
        from jinja2.sandbox import SandboxedEnvironment
    except ImportError:
        return frozenset(_IN_BRACES.findall(template))
    try:
        return frozenset(meta.find_undeclared_variables(SandboxedEnvironment().parse(template)))
    except TemplateSyntaxError as error:
        raise PromptTemplateError(f"the template is not well-formed: {error}") from error


def _render_jinja(template: str, values: Mapping[str, object]) -> str:
    try:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import SandboxedEnvironment
    except ImportError as error:
        raise PromptTemplateError("engine 'jinja' needs jinja2: pip install 'agl-protocol[jinja]'") from error
    try:
        return str(SandboxedEnvironment(undefined=StrictUndefined).from_string(template).render(values))
    except Exception as error:  # An expression in a template can raise anything.
        raise _unsuitable(error, values) from error


def _unsuitable(error: Exception, values: Mapping[str, object]) -> PromptTemplateError:
    return PromptTemplateError(
        f"the template cannot be filled in: {error} ({type(error).__name__}); given: {_quoted(values)}"
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "nothing"
