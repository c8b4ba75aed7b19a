"""How prompt templates are filled in, and what is said when they cannot be."""

import sys
from dataclasses import dataclass
from importlib.util import find_spec

import pytest
from agentlightning import PromptTemplate, PromptTemplateError


def test_placeholders_are_filled_in_and_other_values_left_alone() -> None:
    assert PromptTemplate(template="{a} and {b}").format(a=1, b="two", c=3) == "1 and two"


def test_a_missing_placeholder_is_named_with_those_that_are_given() -> None:
    with pytest.raises(PromptTemplateError, match=r"asks for 'time', but only 'date', 'room' is given"):
        PromptTemplate(template="{date} {time}").format(room=1, date=2)


def test_a_missing_placeholder_is_named_when_nothing_is_given() -> None:
    with pytest.raises(PromptTemplateError, match=r"asks for 'date', 'time', but only nothing is given"):
        PromptTemplate(template="{date} {time}").format()


def test_doubled_braces_are_braces() -> None:
    assert PromptTemplate(template='{{"room": "{room}"}}').format(room="Nova") == '{"room": "Nova"}'


def test_json_taken_for_a_placeholder_is_refused_with_the_way_out() -> None:
    with pytest.raises(PromptTemplateError, match=r"write \{\{ and \}\} for braces"):
        PromptTemplate(template='{"room": "Nova"} {room}').format(room="Nova")


@pytest.mark.parametrize("template", ["{", "}", "{room", "{}", "{0}", "{room!x"])
def test_a_template_that_is_not_well_formed_is_refused_with_the_way_out(template) -> None:
    with pytest.raises(PromptTemplateError, match=r"\{\{ and \}\} for braces"):
        PromptTemplate(template=template).format(room="Nova")


@pytest.mark.parametrize(
    ("template", "filled_in"),
    [
        ("{price:.2f}", "3.14"),
        ("{price:>{width}.1f}", "  3.1"),
        ("{room!r}", "'Nova'"),
        ("{place[city]}", "Rome"),
        ("{width.real}", "5"),
    ],
)
def test_formats_conversions_items_and_attributes_are_those_of_python(template, filled_in) -> None:
    values = {"price": 3.14159, "width": 5, "room": "Nova", "place": {"city": "Rome"}}
    assert PromptTemplate(template=template).format(**values) == filled_in


def test_a_placeholder_within_a_format_is_one() -> None:
    template = PromptTemplate(template="{price:{width}}")
    assert template.placeholders == {"price", "width"}
    with pytest.raises(PromptTemplateError, match="asks for 'width', but only 'price' is given"):
        template.format(price=1)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{room:d}", r"Unknown format code 'd'.*\(ValueError\)"),
        ("{room.size}", r"no attribute 'size' \(AttributeError\)"),
        ("{place[street]}", r"'street' \(KeyError\)"),
    ],
)
def test_a_value_that_does_not_suit_its_placeholder_is_told_with_those_given(template, reason) -> None:
    with pytest.raises(PromptTemplateError, match=rf"cannot be filled in: .*{reason}; given: 'place', 'room'"):
        PromptTemplate(template=template).format(room="Nova", place={"city": "Rome"})


@dataclass
class Secretive:
    key: str


def test_a_template_cannot_reach_behind_a_value() -> None:
    with pytest.raises(PromptTemplateError, match="asks for a private attribute"):
        PromptTemplate(template="{task.__init__.__globals__}").format(task=Secretive("s"))


def test_values_may_have_any_name() -> None:
    assert PromptTemplate(template="{self}").format(self="me") == "me"


def test_poml_is_left_to_the_agent() -> None:
    with pytest.raises(PromptTemplateError, match=r"'poml' is rendered by the agent: use \.template"):
        PromptTemplate(template="<poml/>", engine="poml").format()


def test_jinja_without_jinja2_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    template = PromptTemplate(template="Hi {{ name }}", engine="jinja")
    assert template.placeholders == {"name"}
    with pytest.raises(PromptTemplateError, match=r"pip install 'agl-protocol\[jinja\]'"):
        template.format(name="you")


needs_jinja2 = pytest.mark.skipif(find_spec("jinja2") is None, reason="jinja2 is an extra")
JINJA = "{% for room in rooms if room %}{{ room|upper }}{% endfor %}{% if loud %}!{% endif %} {'id': 1}"


@needs_jinja2
def test_jinja_is_rendered() -> None:
    assert PromptTemplate(template=JINJA, engine="jinja").format(rooms=["a", "b"], loud=True) == "AB! {'id': 1}"


@needs_jinja2
def test_the_placeholders_of_jinja_are_the_variables_that_the_template_does_not_set_itself() -> None:
    assert PromptTemplate(template=JINJA, engine="jinja").placeholders == {"rooms", "loud"}


@needs_jinja2
@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("Hi {{ task }}", r"'task' is undefined \(UndefinedError\)"),
        ("{{ name + 1 }}", r"\(TypeError\)"),
        ("{{ name.__class__.__base__ }}", r"unsafe"),
        ("{% if %}", r"\(TemplateSyntaxError\)"),
    ],
)
def test_a_jinja_template_that_cannot_be_filled_in_says_why_and_what_was_given(template, reason) -> None:
    with pytest.raises(PromptTemplateError, match=rf"cannot be filled in: .*{reason}.*; given: 'name'"):
        PromptTemplate(template=template, engine="jinja").format(name="you")


@needs_jinja2
def test_a_jinja_template_that_is_not_well_formed_has_no_placeholders() -> None:
    with pytest.raises(PromptTemplateError, match="not well-formed"):
        _ = PromptTemplate(template="{% if %}", engine="jinja").placeholders
