"""The page: whole, safe, self-contained, and usable without a mouse, a screen or a printer's patience."""

import re
from html.parser import HTMLParser

import agentlightning as agl
import pytest
from agentlightning.trainer.report import html_page

VOID = {"meta", "br"}
HOSTILE = "</pre><script>alert('x')</script><img src=//evil.example onerror=alert(1)> & \x1b[31m\x00 \ud800 \"quoted\""


class Page(HTMLParser):
    """A page as a reader's program sees it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def page(told: agl.Run) -> Page:
    return Page(html_page(told))


@pytest.fixture
def made(runs: dict[str, agl.Run]) -> Page:
    """The page of the run that went well."""
    return Page(html_page(runs["made"]))


def test_every_element_is_closed_in_its_order(page: Page) -> None:
    assert page.open == []


def test_nothing_runs_and_nothing_is_loaded(page: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & {name for name, _ in page.elements}
    attributes = [attribute for _, attributes in page.elements for attribute in attributes.items()]
    assert not [name for name, _ in attributes if name.startswith("on") or name == "src"]
    assert all(value and value.startswith("#") for name, value in attributes if name.endswith("href"))
    assert "url(" not in page.text
    assert "@import" not in page.text
    [policy] = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_links_of_the_page_lead_to_its_parts(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [link["href"] for link in page.all("a")] == [f"#{part['id']}" for part in page.all("section")]


def test_what_others_wrote_is_text_wherever_it_stands(summary: dict[str, object]) -> None:
    def hostile(value: object) -> object:
        match value:
            case str():
                return HOSTILE
            case list():
                return [hostile(each) for each in value]
            case dict():
                return {f"{key}": hostile(each) for key, each in value.items()}
        return value

    texts = {name: hostile(value) for name, value in summary.items()}
    settings = {"tokens": {HOSTILE: [1, 2]}, "settings": {HOSTILE: HOSTILE}, "selection": "race"}
    failure = agl.Failure(kind="agent", type=HOSTILE, message=HOSTILE)
    run = agl.Run(run_id=HOSTILE, algorithm=HOSTILE, status="failed", create_time=0.0, failure=failure)
    text = html_page(run.model_copy(update={"summary": texts | settings}))
    assert not re.search(r"<(script|img)", text)
    assert not re.search("[\x00\x1b\ud800]", text)
    page = Page(text)
    assert page.open == []
    assert "<script>alert('x')</script>" in page.text


def test_the_best_prompt_its_diff_and_each_critique_stand_in_it(made: Page, summary: dict[str, object]) -> None:
    assert str(summary["best_prompt"]) in made.text
    assert "+ Book the smallest room that holds {n} people." in made.text
    assert made.text.count("The agent books rooms that are too large & answers with `names`") == 4
    assert "dropped: behind v1 by 0.25 on 8 tasks" in made.text
    assert "the placeholder 'n' is lost" in made.text


def test_each_plot_is_an_image_with_a_sentence_in_place_of_it(made: Page) -> None:
    plots = made.all("svg")
    assert [(plot["role"], plot["aria-labelledby"]) for plot in plots] == [
        ("img", f"plot-{name}-title") for name in ("interval", "rollouts", "money", "tasks")
    ]
    assert "Best score so far against rollouts: from 0.42 to 0.83 after 148 rollouts." in made.text


def test_a_plot_against_money_needs_money(runs: dict[str, agl.Run]) -> None:
    points = [{"rollouts": 4, "cost": None, "version": "v0", "score": 0.5}]
    page = Page(html_page(runs["made"].model_copy(update={"summary": {"curve": points, "tokens": {"m": [1, 1]}}})))
    assert [plot["aria-labelledby"] for plot in page.all("svg")] == ["plot-rollouts-title"]
    assert "Money: unknown; Trainer(prices=" in page.text


def test_what_scrolls_is_reached_by_the_keyboard_and_has_a_name(made: Page) -> None:
    scrolling = [*made.all("pre"), *(part for part in made.all("div") if part.get("class") == "wide")]
    assert scrolling
    assert all(part["tabindex"] == "0" and part["aria-label"] for part in scrolling)


def test_each_table_has_a_caption_and_headings_of_columns_and_rows(made: Page) -> None:
    assert len(made.all("caption")) == len(made.all("table"))
    assert {heading["scope"] for heading in made.all("th")} == {"col", "row"}


def test_it_is_made_for_light_and_dark_and_paper(made: Page) -> None:
    assert "prefers-color-scheme: dark" in made.text
    assert "@media print" in made.text
    assert "details::details-content" in made.text
