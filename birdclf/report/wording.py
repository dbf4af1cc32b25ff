"""Numbers and names as the report writes them."""

import math
from collections.abc import Sequence

from birdclf.report.document import Number


def share(value: float) -> str:
    """Return a share (0 to 1) in per cent."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def points(value: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f} points"


def p_value(p: float) -> str:
    """Return a p-value with its relation: ``p = 0.03``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def p_number(p: float) -> Number:
    """Return a p-value for a table."""
    return Number(p, "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}")


def number(value: float | None, form: str = "{:.3f}") -> Number | str:
    """Return a figure for a table, a gap where there is none."""
    return "" if value is None or math.isnan(value) else Number(float(value), form.format(value))


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return names as a sentence lists them: ``a, b and c``; past ``most`` the rest is counted."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def counted(n: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: ``1 run``, ``3 runs``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
