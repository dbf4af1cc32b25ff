"""Checks of values from users: whole numbers, numbers in a range, choices. True and false are no numbers."""

import math
import os
from collections.abc import Collection
from typing import Any

from birdclf.errors import UserError


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def require(holds: bool, key: str, value: object, allowed: str) -> None:
    """Raise a :class:`UserError` for a value unless a condition holds."""
    if not holds:
        raise UserError(f"{key} is {value!r}; it must be {allowed}.")


def whole(key: str, value: Any, low: int, high: int | None = None) -> int:
    """Return ``value``.

    Raises:
        UserError: If it is not a whole number from ``low`` to ``high``.
    """
    fits = is_whole(value) and low <= value and (high is None or value <= high)
    require(fits, key, value, f"a whole number {f'of {low} or more' if high is None else f'from {low} to {high}'}")
    return int(value)


def most_processes() -> int:
    """Return the largest number of processes of one kind: 4 a core, and at least 16."""
    return max(16, 4 * (os.cpu_count() or 1))


def in_range(key: str, value: Any, low: float, high: float = math.inf) -> float:
    """Return ``value``.

    Raises:
        UserError: If it is not a finite number between ``low`` and ``high``.
    """
    allowed = f"between {low:g} and {high:g}" if math.isfinite(high) else f"of {low:g} or more"
    require(is_number(value) and low <= value <= high, key, value, f"a number {allowed}")
    number: float = value
    return number


def above(key: str, value: Any, low: float, high: float = math.inf) -> float:
    """Return ``value``.

    Raises:
        UserError: If it is not a finite number above ``low``, and at most ``high``.
    """
    most = f", and at most {high:g}" if math.isfinite(high) else ""
    require(is_number(value) and low < value <= high, key, value, f"a number above {low:g}{most}")
    number: float = value
    return number


def fraction(key: str, value: Any) -> float:
    """Return ``value``.

    Raises:
        UserError: If it is not a number that is at least 0 and below 1.
    """
    require(is_number(value) and 0 <= value < 1, key, value, "at least 0 and below 1")
    return float(value)


def choice(key: str, value: Any, allowed: Collection[str]) -> str:
    """Return ``value``.

    Raises:
        UserError: If it is none of ``allowed``.
    """
    require(isinstance(value, str) and value in allowed, key, value, f"one of {', '.join(allowed)}")
    return str(value)
