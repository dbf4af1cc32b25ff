"""A report as Markdown."""

from collections.abc import Sequence

from birdclf.quoting import in_markdown, shown
from birdclf.report.document import Block, Bullets, Cards, Cell, Code, Figure, Number, Section, Table
from birdclf.report.wording import share


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
        return "\n".join(f"    {line}" for line in shown(block.text, keep="\n").split("\n"))
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        return f"*{in_markdown(block.title)}* (drawn in report.html). {in_markdown(block.caption)}"
    if isinstance(block, Cards):
        return _cards(block)
    # What is folded on the page is detail; its tables are kept, its figures are on the page alone.
    inside = [b for b in block.blocks if not isinstance(b, Figure)]
    return "\n\n".join([f"### {in_markdown(block.summary)}", *(map(_block, inside) if inside else ["In report.html."])])


def _table(table: Table) -> str:
    if not table.rows:
        return f"{in_markdown(table.caption)}: none."
    rule = ["---:" if table.numeric(i) else "---" for i in range(len(table.columns))]
    rows = [[in_markdown(_text(cell)) for cell in row] for row in table.rows]
    lines = [list(map(in_markdown, table.columns)), rule, *rows]
    return f"{in_markdown(table.caption)}:\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cards(cards: Cards) -> str:
    rows = tuple(
        (c.recording_id, f"{c.truth} ({share(c.p_truth)})", f"{c.predicted} ({share(c.p_predicted)})", c.note)
        for c in cards.cards
    )
    return _table(Table(cards.title, ("recording", "labelled", "named", ""), rows))


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Number) else cell
