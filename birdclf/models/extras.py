"""Libraries that only some networks need, imported when one of these is built."""

from importlib import import_module
from typing import Any

from birdclf.errors import UserError


def from_extra(module: str, extra: str) -> Any:
    """Return a module of a library that an extra of this package installs.

    Args:
        module: Dotted name, such as ``timm.layers``.
        extra: Extra of ``pyproject.toml`` that brings it.

    Raises:
        UserError: If it is not installed, or cannot be imported.
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library of another build of torch
        raise UserError(
            f"This model needs {module.partition('.')[0]}, which cannot be imported ({error}). It comes with an extra: "
            f"pip install 'birdclf[{extra}]'"
        ) from error
