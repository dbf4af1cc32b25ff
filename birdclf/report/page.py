"""A report as one HTML file that loads nothing else."""

import base64
from collections.abc import Sequence

from birdclf.pages import page_template
from birdclf.report.document import Card, Section
from birdclf.report.wording import share


def page(title: str, sections: Sequence[Section]) -> str:
    """Return the sections as a page."""
    template = page_template("report", share=share, data=_data, kind=_kind)
    return template.render(title=title, sections=sections)


def _kind(block: object) -> str:
    """Return the name of a block's type, by which the template chooses how to show it."""
    return type(block).__name__


def _data(card: Card, part: str) -> str:
    """Return a card's ``picture`` or ``sound`` as a data URL."""
    content, mime = (card.spectrogram, "image/png") if part == "picture" else (card.audio, card.mime)
    assert content is not None, "the template asks for what is there"
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
