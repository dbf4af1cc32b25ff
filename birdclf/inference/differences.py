"""Where the figures of two evaluations differ."""

from collections.abc import Iterator
from typing import Any


def differences(written: dict[str, Any], measured: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield a line for each measured figure that is not the written one, to the last digit.

    Args:
        written: Figures of ``metrics.json``; keys that were not measured are passed over.
        measured: Figures of now.
        place: Dotted name of where the figures stand, with a dot at its end.
    """
    for name, value in measured.items():
        before = written.get(name, "nothing")
        if isinstance(value, dict) and isinstance(before, dict):
            yield from differences(before, value, f"{place}{name}.")
        elif value != before:
            yield f"{place}{name}: {before} in metrics.json, {value} now"
