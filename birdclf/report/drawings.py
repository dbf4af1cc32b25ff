"""Figures of the report as SVG that follows the page's colours, light or dark."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas

from birdclf.report.document import Figure

# Drawn in these colours, which nothing else has, and then given the page's own.
INK, FIRST, SECOND = "#010203", "#010204", "#010205"
PAGE_COLOURS = {INK: "currentColor", FIRST: "var(--first)", SECOND: "var(--second)"}
STYLE: Any = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK) | {
    "svg.fonttype": "none",  # text stays text: smaller, and in the page's font
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
}


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
    file = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": unique}):
        unsaid = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        picture.savefig(file, format="svg", transparent=True, metadata=unsaid)
    text = re.sub(r"<style.*?</style>|(?<=<g) id=\"[^\"]*\"", "", file.getvalue(), flags=re.DOTALL)
    for drawn_in, shown in PAGE_COLOURS.items():
        text = text.replace(drawn_in, shown)
    element = re.search(r'viewBox="([^"]*)"[^>]*>(.*)</svg>', text, flags=re.DOTALL)
    assert element is not None, "Matplotlib writes one svg element with a view box"
    return Figure(title, caption, element[1], element[2].strip())
