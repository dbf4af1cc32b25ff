"""Names that others wrote are words wherever they are shown: on a page, in Markdown, in a picture, in a terminal."""

import io
from html.parser import HTMLParser

import numpy as np
import pytest
from audit.made_up_audit import audit_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from birdclf.audit.page import write_page
from birdclf.cli import main
from birdclf.metrics.plots import confusion_figure
from birdclf.report.document import (
    Axis,
    Bullets,
    Card,
    Cards,
    Code,
    DotPlot,
    Folded,
    Mark,
    Row,
    Section,
    Table,
    markdown,
    page,
)
from birdclf.report.sections.species import matrix_figure
from birdclf.text import in_markdown, printable

PIECES = (
    *("<script>alert(1)</script>", "</script>", "<!--", "]]>", "<img src=x onerror=alert(1)>", "javascript:alert(1)"),
    *(
        "\"'",
        "' onload='",
        "&",
        "&lt;",
        "&#60;",
        "{{ 7 * 7 }}",
        "{% raw %}",
        "\x1b[31m",
        "\x9b2J",
        "\x07",
        "\r",
        "\n",
        "\t",
    ),
    *(
        "[bold]",
        "[/]",
        "[/red]",
        "[link=http://x]",
        "[a](http://x)",
        "![a](http://x)",
        "[a]: x",
        "<http://x>",
        "`",
        "```",
    ),
    *("|", "\\", "*", "_", "__x__", "~~", "# ", "- ", "1. ", "> ", "---", "===", "    ", "$\\frac$", "\u202e", "\x00"),
    *("a", "Ünï", "鳥", "../../etc/passwd", "C:\\x", "=cmd|' /C calc'!A0", " ", "\u2028", "\x85", "\udce9", "+ ", "#"),
)
NAMES = (
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), min_size=1, max_size=5)
    .map("".join)
    .filter(str.strip)
)
ALL = "".join(PIECES)


class Page(HTMLParser):
    """The tags of a page with their attributes' names, and the texts between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, tuple(name for name, _ in attributes)))
        self.links += [value for name, value in attributes if name in ("src", "href", "action", "style")]

    def handle_data(self, data):
        self.texts.append(data)

    def handle_comment(self, data):
        raise AssertionError(data)


def orders(text: str) -> set[str]:
    """Return the characters of a text that a terminal would take for more than a letter."""
    return {letter for letter in text if letter != "\n" and (ord(letter) < 32 or 127 <= ord(letter) < 160)}


def sections(name: str) -> tuple[Section, ...]:
    card = Card(name, name, name + "b", 0.1, 0.9, "confident mistake", b"png", b"wav", "audio/wav", name)
    drawn = matrix_figure(np.array([[2, 1], [1, 2]]), (name, name + "b"))
    table = Table(name, (name, "n"), ((name, name), ("b", "")), filterable=True)
    mark = Mark(0.5, 0.4, 0.6, name)
    dots = DotPlot(name, name, name, (Axis(name, 0, 1, ((0.5, name),)),), (Row(name, (mark,), name), Row(name)))
    blocks = (name, Code(name), Bullets((name,)), table, Table(name, (name,), ()), drawn, dots, Cards(name, (card,)))
    return (Section("one", name, (*blocks, Folded(name, (table,)))),)


@given(name=NAMES)
@example(name=ALL)
def test_a_page_has_the_tags_that_it_has_with_plain_names(name):
    plain, made = Page(page("a", sections("a"))), Page(page(name, sections(name)))
    assert made.tags == plain.tags and made.links == plain.links
    assert not orders("".join(made.texts)) and "\udce9" not in "".join(made.texts)
    assert printable(name, keep="\n") in made.texts


@pytest.mark.slow
@settings(max_examples=6, deadline=None)  # a page takes a quarter of a second, and one example has all pieces
@given(name=NAMES)
@example(name=ALL)
def test_an_audit_has_the_tags_that_it_has_with_plain_names(name, tmp_path_factory):
    pages = []
    for text in ("a", name.replace("\udce9", "")):  # which no table can hold
        audit = audit_of(3, problems="clipped", audio_hash="same", reason=text)
        audit.loc[[0, 1], "species"] = text
        audit.loc[0, "recording_id"] = text
        file = tmp_path_factory.mktemp("audit") / "audit.html"
        write_page(audit, text, file)
        pages.append(Page(file.read_text(encoding="utf-8")))
    assert sorted(pages[0].tags) == sorted(pages[1].tags) and pages[0].links == pages[1].links
    assert not orders("".join(pages[1].texts))


def inline(text: str) -> list[str]:
    """Return the kinds of what a line of Markdown holds, and its words."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    inside = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inside} <= {"text"}, (text, inside)
    return [*(token.type for token in tokens), "".join(child.content for child in inside)]


@given(name=NAMES)
@example(name=ALL)
def test_markdown_shows_a_name_as_it_is(name):
    said, words = in_markdown(name), printable(" ".join(name.split()))
    assert inline(said) == ["paragraph_open", "inline", "paragraph_close", words]
    assert inline(f"## x {said} x")[-1] == f"x {words} x"
    assert inline(f"- {said}")[2:] == [
        "paragraph_open",
        "inline",
        "paragraph_close",
        "list_item_close",
        "bullet_list_close",
        words,
    ]
    table = MarkdownIt("commonmark").enable("table").parse(f"| a | b |\n| --- | --- |\n| {said} | c |\n")
    assert [token.content for token in table if token.type == "inline"][2:] == [said.replace("\\|", "|"), "c"]


@given(name=NAMES)
@example(name=ALL)
def test_a_report_in_markdown_has_no_tag_and_no_link(name):
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown(name, sections(name)))
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}
    assert not {kind for kind in kinds if kind.startswith(("html", "link", "image", "fence", "hr"))}
    assert not orders(markdown(name, sections(name)))


@given(name=NAMES)
@example(name=ALL)
def test_a_picture_is_drawn_whatever_the_name(name):
    confusion_figure(np.eye(2, dtype=int), (name, "a")).savefig(io.BytesIO(), dpi=20)


@pytest.mark.parametrize("name", [*PIECES, ALL])
def test_a_table_in_a_terminal_shows_the_words(name, monkeypatch, tmp_path):
    import pandas as pd
    import rich.console

    from birdclf.runs import results
    from birdclf.sweep import table

    out, name = io.StringIO(), name.replace("\udce9", "")  # which no table can hold

    def console() -> Console:
        return Console(file=out, width=2000, force_terminal=True, color_system=None)

    monkeypatch.setattr(rich.console, "Console", console)
    monkeypatch.setattr(results, "Console", console)
    row = {"job": "0", "status": "finished", "val/nll": 1.0, "test accuracy": 0.5, "low": 0.4, "high": 0.6}
    row |= {"test macro F1": 0.5, "best epoch": 1, "epochs": 2}
    jobs = pd.DataFrame([row | {"overrides": f"a={name} all={name}"}, row | {"overrides": f"b={name} all={name}"}])
    table._print(jobs, tmp_path / "x[/red]\x1b")
    results.print_table(name, {})
    said = out.getvalue()
    assert not orders(said)
    assert len(name) > 100 or all(word in said for word in printable(name).split()), said
    markup = table._markdown(jobs)
    assert not orders(markup) and "<script" not in markup and "<img" not in markup


def test_a_mistake_is_reported_without_control_characters(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(tmp_path / "a\x1b[2Jb\udce9")])
    err = capsys.readouterr().err
    assert "a\\x1b[2Jb\\udce9 is no folder" in err and not orders(err)
