"""The refusal of a setting of features."""

from birdclf import checks
from birdclf.errors import UserError


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Refuse a value of ``features.<name>`` that does not hold, saying what is allowed.

    Raises:
        UserError: If it does not.
    """
    if not holds:
        raise UserError(f"features.{name} is {value!r}; it must be {allowed}.")


def whole(name: str, value: object) -> None:
    """Refuse a value of ``features.<name>`` that is no whole number from 1.

    Raises:
        UserError: If it is none.
    """
    checks.whole(f"features.{name}", value, 1)
