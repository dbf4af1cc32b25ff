"""Pretrained weights, from a file or the Hugging Face Hub."""

import pickle
import warnings
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from birdclf.errors import UserError
from birdclf.files import refuse_pointer


def from_extra(module: str, extra: str) -> Any:
    """Return a module of a library that an extra of this package installs.

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


NESTS: Final = ("model_state_dict", "state_dict")
"""Keys under which checkpoints hold the weights."""
PATIENCE_S: Final = 10.0
"""Timeout for the first response of the hub."""
HUB_FILE: Final = "model.safetensors"


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the weights in an untrusted file by name, on the CPU, without executing code.

    Args:
        path: A state dict saved by torch, alone or under ``model_state_dict`` or ``state_dict``, a ``.safetensors``
            file, or a folder with a ``model.safetensors``.

    Raises:
        UserError: If there is no such file, or it holds something else.
    """
    path = Path(path) / HUB_FILE if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise UserError(f"model.pretrained: {path} does not exist. Give a file with weights, true or false.")
    content = _opened(path)
    while (nest := next((name for name in NESTS if isinstance(content.get(name), Mapping)), None)) is not None:
        content = content[nest]
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if not content or others:
        held = f"{others[0]!r} in it is no tensor" if others else "it is empty"
        raise UserError(
            f"model.pretrained: {path} holds no state dict: {held}. Save the weights by "
            f"torch.save(model.state_dict(), FILE), or under one of {', '.join(NESTS)}."
        )
    return dict(content)


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], source: str, replaced: Collection[str] = ()
) -> set[str]:
    """Load all weights of a module, whose names may have a prefix such as ``module.`` or ``network.backbone.``.

    Args:
        module: Module that gets the weights.
        weights: By name.
        source: File or repository, for messages.
        replaced: Names of layers, such as ``head.fc``, whose weights are left out since they are for other classes.

    Returns:
        Those of the names of ``weights`` that are loaded.

    Raises:
        UserError: If a weight is missing, left over or of another shape.
    """
    own = module.state_dict()
    prefix = prefix_of(own, weights)
    beginnings = tuple(f"{name}." for name in replaced)
    given = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    given = {name: value for name, value in given.items() if not name.startswith(beginnings)}
    kept = {name: value for name, value in own.items() if not name.startswith(beginnings)}
    problems = [f"{name} is missing" for name in kept if name not in given]
    problems += [f"{name} is left over" for name in given if name not in kept]
    problems += [
        f"{name} is {tuple(given[name].shape)} instead of {tuple(value.shape)}"
        for name, value in kept.items()
        if name in given and given[name].shape != value.shape
    ]
    if problems:
        raise UserError(
            f"model.pretrained: the weights of {source} are not those of this model: {problems[0]}, "
            f"{len(problems)} such differences in all. Choose the model that they were trained with."
        )
    module.load_state_dict(given, strict=False)
    return {prefix + name for name in given}


def prefix_of(own: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
    """Return the prefix of the names of ``own`` in ``weights``, empty if no name matches."""
    for name in own:
        for given in weights:
            if given == name or given.endswith(f".{name}"):
                return given.removesuffix(name)
    return ""


def from_hub(repo: str, file: str = HUB_FILE) -> Path:
    """Return a file of a repository of the hub, downloaded unless it is in the cache.

    Raises:
        UserError: If the hub cannot be reached within seconds, or has no such file.
    """
    hub = from_extra("huggingface_hub", "timm")
    httpx = from_extra("httpx", "timm")
    try:
        try:
            return Path(hub.hf_hub_download(repo, file, local_files_only=True))
        except hub.errors.LocalEntryNotFoundError:
            # The library retries for minutes; this request fails at once if the hub cannot be reached.
            httpx.head(hub.constants.ENDPOINT, timeout=PATIENCE_S)
            return Path(hub.hf_hub_download(repo, file))
    except (OSError, ValueError, httpx.HTTPError, hub.errors.HTTPError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"model.pretrained: {file} of {repo} cannot be had from the Hugging Face hub: {reason}. Download it on "
            f"another machine and give its path, model.pretrained=FILE, or train from scratch: model.pretrained=false."
        ) from error


def check_pretrained(pretrained: object) -> None:
    """Refuse a value that is neither a boolean nor a path."""
    if not isinstance(pretrained, bool) and not (isinstance(pretrained, str) and pretrained):
        raise UserError(f"model.pretrained is {pretrained!r}; it must be true, false or the path of a file.")


def _opened(path: Path) -> dict[str, Any]:
    refuse_pointer(path)
    try:
        if path.suffix == ".safetensors":
            found: dict[str, Any] = from_extra("safetensors.torch", "timm").load_file(path)
            return found
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the pickle format of a file that is then refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"model.pretrained: {path} cannot be read as weights: it is damaged, or holds more than weights and plain "
            f"values, so that opening it could run code. Save the state dict alone."
        ) from error
    except UserError:
        raise
    except Exception as error:  # each format has its own errors for a truncated file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"model.pretrained: {path} cannot be read as weights: {reason}. Copy it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"model.pretrained: {path} holds a {type(content).__name__}, no state dict.")
    return content
