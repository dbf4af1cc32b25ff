"""What a report is made of, before it is Markdown or HTML."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Number:
    """A figure in a table: what sorts it, and what is read."""

    value: float
    text: str


Cell = str | Number


@dataclass(frozen=True)
class Table:
    """A table with a caption; a column of numbers is set to the right and sorts by value.

    Attributes:
        caption: What the rows are.
        columns: Heads.
        rows: One cell a column each.
        filterable: Whether the page offers a box that hides the rows without a text.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    filterable: bool = False

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
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines to copy into a shell."""

    text: str


@dataclass(frozen=True)
class Card:
    """One recording of the gallery.

    Attributes:
        recording_id: Name of the recording.
        truth: Species that it is labelled with.
        predicted: Species that the network named.
        p_truth: Probability that the network gave to the label, 0 to 1.
        p_predicted: Probability that it gave to its answer, 0 to 1.
        kind: ``confident mistake`` or ``hesitant hit``.
        spectrogram: PNG, or None where the sound could not be read.
        audio: Sound file, or None where there is none or it would not fit.
        mime: Type of the sound file, empty without one.
        note: A sentence on what is missing, or empty.
    """

    recording_id: str
    truth: str
    predicted: str
    p_truth: float
    p_predicted: float
    kind: str
    spectrogram: bytes | None = None
    audio: bytes | None = None
    mime: str = ""
    note: str = ""


@dataclass(frozen=True)
class Cards:
    """A row of the gallery."""

    title: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Folded:
    """Parts that a reader opens when wanted."""

    summary: str
    blocks: "tuple[Block, ...]"


Block = str | Table | Figure | Bullets | Code | Cards | Folded
"""A part of a section; a text is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading, whose anchor is unique."""

    anchor: str
    title: str
    blocks: tuple[Block, ...] = field(default=())
