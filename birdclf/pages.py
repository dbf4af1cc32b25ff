"""Templates and style of the HTML pages and of their figures."""

import base64
import io
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from birdclf.text import printable


def page_template(room: str, **filters: Callable[..., object]) -> jinja2.Template:
    """Return the ``page.html`` of a room, which fills the blocks of ``base.html``; every value is escaped."""
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("birdclf", ""),
        autoescape=True,
        finalize=_printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= filters
    return pages.get_template(f"{room}/page.html")


def _printable(value: object) -> object:
    """Return a value with control characters as escapes; markup of the page itself is unchanged."""
    return printable(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


def data_url(content: bytes, mime: str) -> str:
    """Return bytes as a data URL."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


INK: Final = "#010203"
"""Placeholder colour, which the page replaces by its text colour."""
STYLE: Final[Any] = dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
) | {
    "svg.fonttype": "none",  # text stays text: smaller, and in the page's font
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def inside_of_svg(figure: Figure, unique: str, colours: Mapping[str, str]) -> tuple[str, str]:
    """Return the view box and the content of a figure's SVG element; equal figures give equal text.

    Args:
        figure: Drawn in :data:`STYLE`.
        unique: A name that no other figure of the page has; it keeps their internal references apart.
        colours: Colours of the page by the colours of the figure, beside :data:`INK`.
    """
    file = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": unique}):
        unsaid = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=unsaid)
    text = re.sub(r"<style.*?</style>|(?<=<g) id=\"[^\"]*\"", "", file.getvalue(), flags=re.DOTALL)
    for drawn, seen in {INK: "currentColor", **colours}.items():
        text = text.replace(drawn, seen)
    element = re.search(r'viewBox="([^"]*)"[^>]*>(.*)</svg>', text, flags=re.DOTALL)
    assert element is not None, "Matplotlib writes one svg element with a view box"
    return element[1], element[2].strip()
