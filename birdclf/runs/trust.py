"""Rules for the code that an untrusted checkpoint or ``config.yaml`` may name.

Reading a checkpoint or the ``config.yaml`` of a run folder runs nothing, but both name classes and functions to build
from. Any other name than these is refused:

- the module lies in the package ``birdclf``, or in one that the user named with ``--trust``; others are not imported;
- the name is defined there, not something that the module merely imports (``birdclf.cli.os.system``);
- it is a class of the required kind, or a function annotated to return one;
- its arguments are plain values: none of them is a ``_target_`` of its own, and none is filled in from elsewhere. The
  parts of a fusion of features alone are such nodes; each must name features, and is held to these rules.

A network that takes ``pretrained`` gets ``False`` whatever the file says, so it opens and fetches nothing.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from importlib import import_module
from inspect import isfunction
from typing import Any, TypeVar

from birdclf.errors import UserError

Kind = TypeVar("Kind")

NAMED = ("birdclf", "torch", "lightning", "optuna")
"""Packages that a ``config.yaml`` may name; building requires more."""


def build(
    node: Any, kind: type[Kind], where: str, trusted: Collection[str] = (), of: str = "the checkpoint", **known: Any
) -> Kind:
    """Build an object from an untrusted configuration.

    Args:
        node: ``_target_`` and its arguments, as plain values.
        kind: Required class.
        where: Name of the node, for messages.
        trusted: Top-level packages that the user trusts beside ``birdclf``.
        of: The file that holds the node, for messages.
        known: Arguments that only the caller knows.

    Raises:
        UserError: If the name is not trusted, not there or of another kind, or refuses its arguments.
    """
    make = named(node, kind, where, trusted, of)
    try:
        built = make(**known)
    except Exception as error:  # any error of a constructor comes from the settings
        target = node["_target_"]
        raise UserError(f"{where} of {of} cannot be built: {target} refuses its settings: {error}") from error
    if not isinstance(built, kind):
        raise UserError(f"{where}._target_ of {of} is {node['_target_']}, which gives no {kind.__name__}.")
    return built


def named(
    node: Any, kind: type[Kind], where: str, trusted: Collection[str] = (), of: str = "the checkpoint"
) -> Callable[..., Kind]:
    """Return the callable of :func:`build`, with the arguments of the node.

    Raises:
        UserError: If it must not be called.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise UserError(f"{where}._target_ is missing: {of} does not say what to build.")
    target = str(node["_target_"])
    arguments = {name: value for name, value in node.items() if name not in ("_target_", "_partial_", "_recursive_")}
    if any(str(name).startswith("_") for name in arguments) or _builds(list(arguments.values())):
        raise UserError(
            f"{where} of {of} builds something inside its arguments; only plain values are allowed there. "
            f"Do not use this file unless you know who made it."
        )
    return partial(_found(target, kind, f"{where}._target_ of {of} is {target}", trusted), **arguments)


def check_names(config: Any, of: str, trusted: Collection[str] = ()) -> None:
    """Refuse a configuration, in plain values, that names untrusted code anywhere, or a value that is kept elsewhere.

    Trusted are ``birdclf``, ``torch``, ``lightning`` and the given top-level packages; ``of`` names the file in
    messages.

    Raises:
        UserError: If it does.
    """
    for where, value in _leaves(config):
        if where.rpartition(".")[2] == "_target_":
            package = str(value).split(".")[0]
            if not isinstance(value, str) or package not in (*NAMED, *_packages(trusted)):
                raise UserError(
                    f"{where} of {of} is {value}, code outside {', '.join(NAMED[:-1])} and {NAMED[-1]}, which is not "
                    f"run. {_way(package)}"
                )
        elif isinstance(value, str) and "${" in value:
            raise UserError(
                f"{where} of {of} is {value!r}, which asks for a value from elsewhere; a run writes plain values only. "
                f"Write the value itself there, or restore the file."
            )


def _found(target: str, kind: type[Kind], message: str, trusted: Collection[str]) -> Callable[..., Kind]:
    """Return the class or function of a name that may be called."""
    module, _, name = target.rpartition(".")
    package, trusted = target.split(".")[0], _packages(trusted)
    if package not in ("birdclf", *trusted):
        raise UserError(f"{message}, code outside birdclf, which is not run. {_way(package)}")
    # The modules with such names are programs, which run when they are imported.
    found: Any = None if "__" in target or not module else _imported(module, name, message)
    home = str(getattr(found, "__module__", ""))
    own = home == module if package == "birdclf" else home.split(".")[0] in ("birdclf", *trusted)
    right = isinstance(found, type) and issubclass(found, kind)
    if isfunction(found):
        right = package in trusted or found.__annotations__.get("return") is kind
    if not own or not right:
        raise UserError(f"{message}, which is no {kind.__name__}; nothing is run.")
    called: Callable[..., Kind] = found
    return called


def _packages(trusted: Collection[str]) -> list[str]:
    """Return the packages without Python's standard library, which can never be trusted."""
    return [package for package in trusted if package not in sys.stdlib_module_names]


def _way(package: str) -> str:
    if package in sys.stdlib_module_names or not package.isidentifier():
        return "Do not use this file unless you know who made it."
    return f"If you know who wrote it: --trust {package}"


def _imported(module: str, name: str, message: str) -> Any:
    try:
        return getattr(import_module(module), name, None)
    except ImportError as error:
        raise UserError(
            f"{message}, which cannot be imported: {error}. Install the package that the run was trained with, or "
            f"start in its folder."
        ) from error


def _builds(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(str(name).startswith("_") for name in value) or _builds(list(value.values()))
    return isinstance(value, list | tuple) and any(_builds(item) for item in value)


def _leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key, and every value that holds no others or is a ``_target_``, each with its dotted name."""
    if name.rpartition(".")[2] == "_target_" or not isinstance(node, Mapping | list | tuple):
        yield name, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield f"the key {key!r}", key
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        for i, value in enumerate(node):
            yield from _leaves(value, f"{name}[{i}]")
