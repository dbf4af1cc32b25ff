"""Checks of values that users give: whole numbers, numbers in a range, choices. True and false are no numbers."""

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


def whole(key: str, value: Any, low: int, high: int | None = None) -> int:
    """Return ``value``.

    Raises:
        UserError: If it is not a whole number from ``low`` to ``high``.
    """
    if not is_whole(value) or value < low or (high is not None and value > high):
        allowed = f"of {low} or more" if high is None else f"from {low} to {high}"
        raise UserError(f"{key} is {value!r}; it must be a whole number {allowed}.")
    return int(value)


def most_processes() -> int:
    """Return how many processes of one kind this machine can bear: 4 a core, and 16 at least."""
    return max(16, 4 * (os.cpu_count() or 1))


def in_range(key: str, value: Any, low: float, high: float = math.inf) -> float:
    """Return ``value``.

    Raises:
        UserError: If it is not a finite number between ``low`` and ``high``.
    """
    if not is_number(value) or not low <= value <= high:
        allowed = f"between {low:g} and {high:g}" if math.isfinite(high) else f"of {low:g} or more"
        raise UserError(f"{key} is {value!r}; it must be a number {allowed}.")
    number: float = value
    return number


def above(key: str, value: Any, low: float, high: float = math.inf) -> float:
    """Return ``value``.

    Raises:
        UserError: If it is not a finite number above ``low``, and at most ``high``.
    """
    if not is_number(value) or not low < value <= high:
        most = f", and at most {high:g}" if math.isfinite(high) else ""
        raise UserError(f"{key} is {value!r}; it must be a number above {low:g}{most}.")
    number: float = value
    return number


def choice(key: str, value: Any, allowed: Collection[str]) -> str:
    """Return ``value``.

    Raises:
        UserError: If it is none of ``allowed``.
    """
    if not isinstance(value, str) or value not in allowed:
        raise UserError(f"{key} is {value!r}; it must be one of {', '.join(allowed)}.")
    return value
