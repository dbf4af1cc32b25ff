"""Parts of a report, before they are rendered as Markdown or HTML."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import matplotlib
from matplotlib.figure import Figure as Canvas

from birdclf.pages import STYLE, data_url, inside_of_svg, page_template
from birdclf.text import in_markdown, markdown_table, printable


@dataclass(frozen=True)
class Number:
    """A figure in a table: what sorts it, and what is read."""

    value: float
    text: str


Cell = str | Number


@dataclass(frozen=True)
class Table:
    """A table with a caption; a column of numbers is set to the right and sorts by value."""

    caption: str  # what the rows are
    columns: tuple[str, ...]  # heads
    rows: tuple[tuple[Cell, ...], ...]  # one cell a column each
    filterable: bool = False  # whether the page offers a box that hides the rows without a text

    def numeric(self, column: int) -> bool:
        """Return whether a column holds numbers, and nothing else but gaps."""
        cells = [row[column] for row in self.rows]
        return any(isinstance(c, Number) for c in cells) and all(isinstance(c, Number) or not c for c in cells)


@dataclass(frozen=True)
class Figure:
    """A drawing: the inside of its SVG element, whose colours are the page's own, and what it shows in words."""

    title: str
    caption: str
    view_box: str
    svg: str


@dataclass(frozen=True)
class Mark:
    """A point of a dot plot, with its interval where there is one."""

    value: float
    low: float  # NaN without an interval
    high: float
    text: str  # the figures, for who cannot see them
    filled: bool = True  # hollow otherwise


@dataclass(frozen=True)
class Axis:
    """The axis of a column of a dot plot, which all its rows share."""

    name: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]  # inside the limits
    zero: float | None = None  # where to draw a line
    margin: float | None = None  # half the width of a band around that line

    def at(self, value: float) -> str:
        """Return the place of a value: per cent of the column's width, from the left."""
        return f"{100 * (value - self.low) / (self.high - self.low):.4g}%"


@dataclass(frozen=True)
class Row:
    """A row of a dot plot: one mark an axis, or none of them under a heading."""

    label: str
    marks: tuple[Mark | None, ...] = ()
    note: str = ""
    strong: bool = False  # in the second colour


@dataclass(frozen=True)
class DotPlot:
    """Points and intervals, a row each; the page draws it as wide as the screen with letters of one size."""

    title: str
    caption: str
    head: str  # what the labels are
    axes: tuple[Axis, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines to copy into a shell."""

    text: str


@dataclass(frozen=True)
class Card:
    """One recording of the gallery."""

    recording_id: str  # name of the recording
    truth: str  # species that it is labelled with
    predicted: str  # species that the network named
    p_truth: float  # probability that the network gave to the label, 0 to 1
    p_predicted: float  # probability that it gave to its answer, 0 to 1
    kind: str  # `confident mistake` or `hesitant hit`
    spectrogram: bytes | None = None  # PNG, or None where the sound could not be read
    audio: bytes | None = None  # sound file, or None where there is none or it would not fit
    mime: str = ""  # type of the sound file, empty without one
    note: str = ""  # A sentence on what is missing, or empty


@dataclass(frozen=True)
class Cards:
    """A row of the gallery."""

    title: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Folded:
    """Parts that are folded until a reader opens them."""

    summary: str
    blocks: "tuple[Block, ...]"


Block = str | Table | Figure | DotPlot | Bullets | Code | Cards | Folded
"""A part of a section; a text is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading, whose anchor is unique."""

    anchor: str
    title: str
    blocks: tuple[Block, ...] = field(default=())


def share(value: float) -> str:
    """Return a share (0 to 1) in per cent."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def points(value: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f} points"


def p_value(p: float) -> str:
    """Return a p-value with its relation: ``p = 0.03``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def p_number(p: float) -> Number:
    """Return a p-value for a table."""
    return Number(p, "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}")


def number(value: float | None, form: str = "{:.3f}") -> Number | str:
    """Return a figure for a table, a gap where there is none."""
    return "" if value is None or math.isnan(value) else Number(float(value), form.format(value))


def capitalised(name: str) -> str:
    """Return the name of a figure at the beginning of a sentence: ``cmAP`` keeps its letters."""
    return name if name == "cmAP" else name[0].upper() + name[1:]


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names as a sentence lists them: ``a, b and c``; past ``most`` the rest is counted."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def counted(n: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: ``1 run``, ``3 runs``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the sections as GitHub-flavoured Markdown; figures and sounds are words there."""
    parts = [f"# {in_markdown(title)}"]
    for section in sections:
        parts.append(f"## {in_markdown(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, str):
        return in_markdown(block)
    if isinstance(block, Bullets):
        return "\n".join(f"- {in_markdown(item)}" for item in block.items)
    if isinstance(block, Code):
        return "\n".join(f"    {line}" for line in printable(block.text, keep="\n").split("\n"))
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure | DotPlot):
        return f"*{in_markdown(block.title)}* (drawn in report.html). {in_markdown(block.caption)}"
    if isinstance(block, Cards):
        return _cards(block)
    # What is folded on the page is detail; its tables are kept, its figures are on the page alone.
    inside = [b for b in block.blocks if not isinstance(b, Figure | DotPlot)]
    return "\n\n".join([f"### {in_markdown(block.summary)}", *(map(_block, inside) if inside else ["In report.html."])])


def _table(table: Table) -> str:
    if not table.rows:
        return f"{in_markdown(table.caption)}: none."
    right = [column for column in range(len(table.columns)) if table.numeric(column)]
    rows = ([in_markdown(cell.text if isinstance(cell, Number) else cell) for cell in row] for row in table.rows)
    return f"{in_markdown(table.caption)}:\n\n{markdown_table(map(in_markdown, table.columns), rows, right)}"


def _cards(cards: Cards) -> str:
    rows = tuple(
        (c.recording_id, f"{c.truth} ({share(c.p_truth)})", f"{c.predicted} ({share(c.p_predicted)})", c.note)
        for c in cards.cards
    )
    return _table(Table(cards.title, ("recording", "labelled", "named", ""), rows))


def page(title: str, sections: Sequence[Section]) -> str:
    """Return the sections as a page."""
    kind = lambda block: type(block).__name__  # noqa: E731, by which the template chooses how to show it
    return page_template("report", share=share, data=_data, kind=kind).render(title=title, sections=sections)


def _data(card: Card, part: str) -> str:
    """Return a card's ``picture`` or ``sound`` as a data URL."""
    content, mime = (card.spectrogram, "image/png") if part == "picture" else (card.audio, card.mime)
    assert content is not None, "the template asks for what is there"
    return data_url(content, mime)


FIRST, SECOND = "#010204", "#010205"
PAGE_COLOURS = {FIRST: "var(--first)", SECOND: "var(--second)"}


@contextmanager
def canvas(width: float, height: float) -> Iterator[Canvas]:
    """Yield an empty figure in the style of the page, width and height in inches at 72 units.

    Its margins are fixed: a layout that is found draws everything twice, which 40 runs would feel.
    """
    with matplotlib.rc_context(STYLE):
        picture = Canvas(figsize=(width, height))
        picture.subplots_adjust(0.55 / width, 0.55 / height, 1 - 0.15 / width, 1 - 0.3 / height, wspace=0.2)
        yield picture


def svg_figure(title: str, caption: str, picture: Canvas, unique: str) -> Figure:
    """Return a figure as a part of the page, without names that other figures have too."""
    return Figure(title, caption, *inside_of_svg(picture, unique, PAGE_COLOURS))
