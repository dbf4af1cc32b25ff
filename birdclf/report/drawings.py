"""Figures of the report as SVG that follows the page's colours, light or dark."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure as Canvas

from birdclf.report.document import Figure
from birdclf.svg import STYLE, inside_of_svg

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


def drawn(title: str, caption: str, picture: Canvas, unique: str) -> Figure:
    """Return a figure as a part of the page, without names that other figures have too.

    Args:
        title: Heading.
        caption: What it shows, in words, for those who cannot see it.
        picture: What to draw.
        unique: A name that no other figure of the page has.
    """
    return Figure(title, caption, *inside_of_svg(picture, unique, PAGE_COLOURS))
