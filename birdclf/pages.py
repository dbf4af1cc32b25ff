"""Pages in one style: each an HTML file that loads nothing, follows light and dark mode, and reads without a script."""

from collections.abc import Callable

import jinja2
from markupsafe import Markup

from birdclf.quoting import shown


def page_template(room: str, **filters: Callable[..., object]) -> jinja2.Template:
    """Return the ``page.html`` of a room, which fills the blocks of ``base.html``; every value is escaped.

    Args:
        room: Folder of the package.
        **filters: What the template calls, by name.
    """
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("birdclf", ""),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= filters
    return pages.get_template(f"{room}/page.html")


def _shown(value: object) -> object:
    """Return what is written of a value, before it is escaped; what a page's own parts wrote stays as it is."""
    return shown(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value
