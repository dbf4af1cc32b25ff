"""Pages in one style: each an HTML file that loads nothing, follows light and dark mode, and reads without a script."""

from collections.abc import Callable

import jinja2


def page_template(room: str, **filters: Callable[..., object]) -> jinja2.Template:
    """Return the ``page.html`` of a room, which fills the blocks of ``base.html``; every value is escaped.

    Args:
        room: Folder of the package.
        **filters: What the template calls, by name.
    """
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("birdclf", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= filters
    return pages.get_template(f"{room}/page.html")
