"""The words and tables that a model card is made of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from birdclf.export.run_facts import RunFacts, target
from birdclf.quoting import in_markdown


def name(facts: RunFacts, group: str) -> str:
    """Return the name of what a group builds, such as ``AudioCNNv2``."""
    return target(facts.config, group).rpartition(".")[2] or "unknown"


def names(names: Iterable[str]) -> str:
    """Return names one behind the other."""
    return ", ".join(map(in_markdown, names))


def interval(figure: Any) -> str:
    """Return a figure with its interval, if it has one."""
    if not isinstance(figure, Mapping):
        return number(figure)
    if figure.get("low") is None or figure.get("high") is None:
        return number(figure.get("value"))
    return f"{number(figure.get('value'))} ({number(figure['low'])} to {number(figure['high'])})"


def number(value: Any) -> str:
    """Return a figure with three digits, or a dash for none."""
    return f"{value:.3f}" if isinstance(value, int | float) and value == value else "–"


def duration(seconds: float) -> str:
    """Return a time in hours or seconds."""
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds:.0f} s"


def bullets(lines: Iterable[str], escaped: bool = False) -> str:
    """Return a list; lines that hold Markdown of ours are escaped already."""
    return "\n".join(f"- {line if escaped else in_markdown(line)}" for line in lines)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> str:
    """Return a table; ``sides`` has ``r`` for a column of numbers, else ``l``."""
    rule = ["---:" if side == "r" else "---" for side in sides]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))
