"""Checks of settings against the types that constructors declare, before anything is built."""

import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from inspect import Parameter, signature
from os import PathLike
from types import NoneType, UnionType
from typing import Any, Literal, Union, Unpack, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from birdclf.errors import UserError

TARGET = "_target_"


def check_types(node: Any, key: str = "") -> None:
    """Refuse values that a constructor does not take, and convert those that stand for one that it does.

    A number becomes a text where one is declared, and ``1e3`` becomes 1000 where a whole number is.

    Raises:
        UserError: If a value is of another type than its argument.
    """
    if isinstance(node, ListConfig):
        for i, item in enumerate(node):
            check_types(item, f"{key}[{i}]")
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    types = types_of(node)
    for name in map(str, node):
        if OmegaConf.is_missing(node, name):
            continue
        where = f"{key}.{name}" if key else name
        check_types(node[name], where)
        value = OmegaConf.to_container(node[name], resolve=True) if OmegaConf.is_config(node[name]) else node[name]
        if name in types and not _builds(value):
            held = convert_value(where, value, types[name])
            if held != value or type(held) is not type(value):
                node[name] = held


def check_arguments(key: str, values: dict[str, Any], target: Callable[..., Any]) -> dict[str, Any]:
    """Return arguments of a function, converted to its declared types; undeclared ones are unchanged.

    Raises:
        UserError: If a value is of another type than its argument.
    """
    types = declared(target)
    return {
        name: convert_value(f"{key}.{name}", value, types[name]) if name in types else value
        for name, value in values.items()
    }


def types_of(node: DictConfig) -> dict[str, Any]:
    """Return the argument types of a node's ``_target_`` by name; empty if they are unknown."""
    if TARGET not in node:
        return {}
    try:
        return declared(get_object(str(node[TARGET])))
    except Exception:  # any error: Hydra reports it when the node is built
        return {}


def declared(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the declared argument types of a class or function by name."""
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        types = get_type_hints(function)
        rest = [p.name for p in signature(function).parameters.values() if p.kind == Parameter.VAR_KEYWORD]
    except (NameError, TypeError, ValueError):  # names that only type checkers know
        return {}
    for name in rest:
        kind = types.pop(name, None)
        if get_origin(kind) is Unpack:
            types |= get_type_hints(get_args(kind)[0])
    types.pop("return", None)
    return types


def convert_value(key: str, value: Any, kind: Any) -> Any:
    """Return a plain value, converted to a type.

    Raises:
        UserError: If it is of another type.
    """
    for means in _readings(value, kind):
        if fits(means, kind):
            return means
    raise UserError(f"{key} is {value!r}; it must be {_words(kind)}.")


def fits(value: Any, kind: Any) -> bool:
    """Return whether a plain value is of a type; an unknown type takes everything."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    if kind in (None, NoneType):
        return value is None
    if kind in (int, float):
        number = isinstance(value, kind | int) and not isinstance(value, bool)
        return number and not math.isnan(value)
    kind = origin or kind
    if not isinstance(kind, type) or kind in (Any, object) or issubclass(kind, Enum):
        return True
    if kind is str or issubclass(kind, PathLike):
        return isinstance(value, str)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping)  # its constructor checks the items
    if issubclass(kind, tuple) and arguments and arguments[-1] is not ...:
        return isinstance(value, list | tuple) and len(value) == len(arguments) and all(map(fits, value, arguments))
    if issubclass(kind, Iterable) and kind.__module__ in ("builtins", "collections.abc"):  # not a tensor
        return isinstance(value, list | tuple) and all(fits(one, a) for one in value for a in arguments[:1])
    return isinstance(value, kind)


def _readings(value: Any, kind: Any) -> Iterable[Any]:
    """Yield a value and its conversions."""
    yield value
    if isinstance(value, float) and value.is_integer():
        yield int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    if isinstance(value, list | tuple):
        yield [str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one for one in value]


def _builds(value: Any) -> bool:
    if isinstance(value, Mapping):
        return TARGET in value or any(map(_builds, value.values()))
    return isinstance(value, list) and any(map(_builds, value))


def _words(kind: Any) -> str:
    """Return a type in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_words, arguments)))
    if origin is Literal:
        return " or ".join(map(str, arguments))
    kind = origin or kind
    simple = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: "null"}
    if kind in simple:
        return simple[kind]
    if isinstance(kind, type) and issubclass(kind, PathLike):
        return "a text"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "names with values, such as {name: value}"
    if isinstance(kind, type) and issubclass(kind, Iterable):
        return f"a list of {len(arguments) if origin is tuple and ... not in arguments else 'values'}, such as [a,b]"
    return f"a {getattr(kind, '__name__', kind)}"
