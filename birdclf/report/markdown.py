"""A report as Markdown."""

import re
from collections.abc import Sequence

from birdclf.report.document import Block, Bullets, Cards, Cell, Code, Figure, Number, Section, Table
from birdclf.report.wording import share


def markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the sections as GitHub-flavoured Markdown; figures and sounds are words there."""
    parts = [f"# {escaped(title)}"]
    for section in sections:
        parts.append(f"## {escaped(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return a text whose characters mean nothing in Markdown or HTML, on one line."""
    text = re.sub(r"([\\`*|~]|\](?=[(\[:])|^[#+-](?= ))", r"\\\1", " ".join(text.split()))
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside a word it means nothing already
    text = re.sub(r"&(?=\w|#)", "&amp;", text)
    return re.sub(r"<(?=\S)", "&lt;", re.sub(r"^>", "&gt;", text))


def _block(block: Block) -> str:
    if isinstance(block, str):
        return escaped(block)
    if isinstance(block, Bullets):
        return "\n".join(f"- {escaped(item)}" for item in block.items)
    if isinstance(block, Code):
        return "\n".join(f"    {line}" for line in block.text.splitlines())
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        return f"*{escaped(block.title)}* (drawn in report.html). {escaped(block.caption)}"
    if isinstance(block, Cards):
        return _cards(block)
    # What is folded on the page is detail; its tables are kept, its figures are on the page alone.
    inside = [b for b in block.blocks if not isinstance(b, Figure)]
    return "\n\n".join([f"### {escaped(block.summary)}", *(map(_block, inside) if inside else ["In report.html."])])


def _table(table: Table) -> str:
    if not table.rows:
        return f"{escaped(table.caption)}: none."
    rule = ["---:" if table.numeric(i) else "---" for i in range(len(table.columns))]
    rows = [[escaped(_text(cell)) for cell in row] for row in table.rows]
    lines = [list(map(escaped, table.columns)), rule, *rows]
    return f"{escaped(table.caption)}:\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cards(cards: Cards) -> str:
    rows = tuple(
        (c.recording_id, f"{c.truth} ({share(c.p_truth)})", f"{c.predicted} ({share(c.p_predicted)})", c.note)
        for c in cards.cards
    )
    return _table(Table(cards.title, ("recording", "labelled", "named", ""), rows))


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Number) else cell
