"""Matplotlib figures as parts of a page: SVG without a frame of its own, in colours that follow light and dark mode."""

import io
import re
from collections.abc import Mapping
from typing import Any, Final

import matplotlib
from matplotlib.figure import Figure

INK: Final = "#010203"
"""Drawn in this colour, which nothing else has, text and lines get the page's own."""
STYLE: Final[Any] = dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
) | {
    "svg.fonttype": "none",  # text stays text: smaller, and in the page's font
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def inside_of_svg(figure: Figure, unique: str, colours: Mapping[str, str]) -> tuple[str, str]:
    """Return the view box of a figure and what is inside its SVG element; equal figures give equal text.

    Args:
        figure: What was drawn, in :data:`STYLE`.
        unique: A name that no other figure of the page has, so that references within one do not meet another's.
        colours: What each colour that was drawn with becomes on the page, beside :data:`INK`.
    """
    file = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": unique}):
        unsaid = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=unsaid)
    text = re.sub(r"<style.*?</style>|(?<=<g) id=\"[^\"]*\"", "", file.getvalue(), flags=re.DOTALL)
    for drawn, shown in {INK: "currentColor", **colours}.items():
        text = text.replace(drawn, shown)
    element = re.search(r'viewBox="([^"]*)"[^>]*>(.*)</svg>', text, flags=re.DOTALL)
    assert element is not None, "Matplotlib writes one svg element with a view box"
    return element[1], element[2].strip()
