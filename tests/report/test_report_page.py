"""The page: closed tags, no network, no dead anchor, everything escaped."""

import re
from html.parser import HTMLParser

import pytest

from birdclf.report.document import Bullets, Card, Cards, Code, Figure, Folded, Number, Section, Table, markdown, page

EVIL = "<script>alert(1)</script> | `x` & [a](http://evil)"
SECTIONS = (
    Section(
        "one",
        EVIL,
        (
            EVIL,
            Bullets((EVIL,)),
            Code("birdclf train 'a=<b>'"),
            Table("Caption", ("name", "n"), ((EVIL, Number(0.5, "0.50")), ("b", "")), filterable=True),
            Table("Nothing", ("name",), ()),
            Figure("Drawing", "What it shows", "0 0 10 10", '<path d="M0 0"/>'),
            Folded("More", (Table("Inside", ("name",), (("x",),)),)),
            Cards("Mistakes", (Card("r1", EVIL, "b", 0.1, 0.9, "confident mistake", b"png", b"wav", "audio/wav"),)),
            Cards("Hits", (Card("r2", "a", "a", 0.3, 0.3, "hesitant hit", note="Moved."),)),
        ),
    ),
    Section("two", "Two"),
)
VOID = {"meta", "input", "img", "br"}


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def text():
    return page(EVIL, SECTIONS)


def test_every_tag_is_closed_and_no_text_is_a_tag(text):
    seen = Seen(text)
    assert not seen.open
    assert len(seen.named("script")) == 1 and "<script>alert" not in text


def test_nothing_is_loaded(text):
    links = [value for _, attributes in Seen(text).tags for key, value in attributes.items() if key in ("src", "href")]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\(|fetch\(", text)


def test_anchors_lead_somewhere_once(text):
    ids = [attributes["id"] for _, attributes in Seen(text).tags if "id" in attributes]
    links = {a["href"].removeprefix("#") for a in Seen(text).named("a")}
    assert len(ids) == len(set(ids)) and links == {"one", "two"} <= set(ids)


def test_tables_say_what_they_are_and_numbers_sort_by_value(text):
    seen = Seen(text)
    assert len(seen.named("caption")) == len(seen.named("table")) == 2
    assert all(head["scope"] in ("col", "row") for head in seen.named("th"))
    assert [cell["data-value"] for cell in seen.named("td") if "data-value" in cell] == ["0.5"]
    assert [t["class"] for t in seen.named("table")] == ["sortable filterable", "sortable"]


def test_cards_have_words_for_their_sound_and_picture(text):
    seen = Seen(text)
    assert [a["aria-label"] for a in seen.named("audio")] == ["Listen to r1"]
    assert [a["alt"] for a in seen.named("img")] == ["Spectrogram of r1"]
    assert "Moved." in text


def test_markdown_keeps_the_tables_whole_and_escapes():
    said = markdown(EVIL, SECTIONS)
    rows = [line for line in said.splitlines() if line.startswith("|") and "alert" in line and "0.50" in line]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 3
    assert "<script>alert" not in said and "[a](" not in said
    assert "Nothing: none." in said and "    birdclf train 'a=<b>'" in said and "| x |" in said
