"""Which code a checkpoint may name.

A checkpoint may come from anybody. Its weights are read with ``weights_only=True``, which runs nothing, but its
configuration names the classes of network and features. They are built only where all of this holds, and refused before
anything is imported otherwise:

- the module lies in the package ``birdclf``, or in one that the user named with ``--trust``;
- the name is a class that is defined there, not something that the module merely imports (``birdclf.cli.os.system``);
- it is an ``nn.Module`` of the kind that is wanted;
- its arguments are plain values: none of them is a ``_target_`` of its own.
"""

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any, TypeVar

from hydra.utils import instantiate
from torch import nn

from birdclf.errors import UserError

Kind = TypeVar("Kind", bound=nn.Module)


def build(node: Any, kind: type[Kind], where: str, trusted: Collection[str] = (), **known: Any) -> Kind:
    """Build a module that a checkpoint's configuration describes.

    Args:
        node: ``_target_`` and its arguments, as plain values.
        kind: What it has to be.
        where: Name of the node, for messages.
        trusted: Top-level packages that the user trusts beside ``birdclf``.
        known: Arguments that only the caller knows.

    Raises:
        UserError: If the class is not trusted, not there or of another kind, or refuses its arguments.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise UserError(f"{where}._target_ is missing: the checkpoint does not say which class to build.")
    target = str(node["_target_"])
    arguments = {name: value for name, value in node.items() if name not in ("_target_", "_partial_", "_recursive_")}
    if any(str(name).startswith("_") for name in arguments) or _targets(list(arguments.values())):
        raise UserError(
            f"{where} of the checkpoint builds something inside its arguments; only plain values are allowed there. "
            f"Do not use this file unless you know who made it."
        )
    _check(target, kind, where, trusted)
    try:
        built = instantiate({"_target_": target, **arguments}, **known, _recursive_=False, _convert_="all")
    except Exception as error:  # whatever a constructor raises, the settings are at fault
        cause = error.__cause__ or error
        raise UserError(f"{where} of the checkpoint cannot be built: {target} refuses its settings: {cause}") from error
    assert isinstance(built, kind)
    return built


def _check(target: str, kind: type[nn.Module], where: str, trusted: Collection[str]) -> None:
    module, _, name = target.rpartition(".")
    package = module.split(".")[0]
    if package not in ("birdclf", *trusted):
        raise UserError(
            f"{where}._target_ of the checkpoint is {target}, code outside birdclf, which is not run. If you know who "
            f"wrote it: --trust {package or target}"
        )
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        raise UserError(
            f"{where}._target_ of the checkpoint is {target}, which cannot be imported: {error}. Install the package "
            f"that the run was trained with, or start in its folder."
        ) from error
    own = isinstance(found, type) and found.__module__.split(".")[0] in ("birdclf", *trusted)
    if not own or not issubclass(found, kind):  # type: ignore[arg-type]
        raise UserError(f"{where}._target_ of the checkpoint is {target}, which is no {kind.__name__}; nothing is run.")


def _targets(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(str(name).startswith("_") for name in value) or _targets(list(value.values()))
    return isinstance(value, list | tuple) and any(_targets(item) for item in value)
