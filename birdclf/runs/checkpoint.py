"""Checkpoint files: atomic writes, and reading without executing code or importing Lightning."""

import io
import math
import os
import pickle
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from birdclf.errors import UserError
from birdclf.features.representation import Representation
from birdclf.files import refuse_pointer
from birdclf.posthoc.base import Adjustment, Adjusts
from birdclf.posthoc.energy import Rejection
from birdclf.posthoc.tau_norm import TauNormalised
from birdclf.runs.trust import build, named
from birdclf.targets import Task

if TYPE_CHECKING:
    from birdclf.runs.predictor import Predictor


CHECKPOINT_FORMAT: Final = 1
LAST: Final = "last.ckpt"
BEFORE: Final = "before_last.ckpt"


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically; an earlier ``last.ckpt`` is kept as ``before_last.ckpt``.

    Raises:
        OSError: If it cannot be written; the old file is still there.
    """
    path.parent.mkdir(exist_ok=True)  # not the run folder above: where that is gone, another must not take its place
    memory = io.BytesIO()  # torch's own writer reports a full disk as an error of its format
    torch.save(content, memory)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(memory.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            os.replace(path, path.with_name(BEFORE))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU; nothing in it is executed.

    Raises:
        UserError: If it cannot be read, is a Git LFS pointer, or holds more than weights and plain values.
    """
    refuse_pointer(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle format of a file that is refused below
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} holds more than weights and plain values: opening it could run code, so it is refused, and "
            f"nothing of it was executed. Do not use this file unless you know who made it."
        ) from error
    except (RuntimeError, EOFError, BadZipFile, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{file} cannot be read as a checkpoint; it may be cut short: {reason}. Copy it again, or use another one."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is no checkpoint of birdclf: it holds a {type(content).__name__}.")
    return content


def load_weights(classifier: nn.Module, checkpoint: Path) -> int:
    """Load a checkpoint's weights and return its epoch, from 1; nothing in the file is executed.

    Raises:
        UserError: If it cannot be read, or holds the weights of something else.
    """
    content = read_checkpoint(checkpoint)
    try:
        classifier.load_state_dict(content["state_dict"])
        return int(content["epoch"]) + 1
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{checkpoint} does not hold the weights of this run. Restore it, or train again.") from error


def keep_calibration(checkpoint: Path, temperature: float, adjustment: dict[str, Any] | None = None) -> None:
    """Add a temperature to a checkpoint, and an adjustment of logits as plain values.

    Raises:
        UserError: If it cannot be read.
    """
    content = read_checkpoint(checkpoint)
    content["birdclf"] |= {"temperature": temperature, "adjustment": adjustment}
    write_checkpoint(content, checkpoint)


NEEDED = {"format": int, "classes": list, "features": dict, "config": dict}


@dataclass(frozen=True)
class LoadedRun:
    """Content of a checkpoint.

    Attributes:
        network: With its weights, in evaluation mode, on the CPU.
        features: Fitted feature module.
        channels_last: Whether the network was trained in channels-last memory format.
        classes: Names of the K classes, in the order of the logits.
        temperature: Divisor of the logits before the softmax; None if none was fitted.
        epoch: Epochs trained.
        config: The run's resolved configuration, as plain values.
        adjustment: Applied to the network's logits before the temperature; None if there is none.
        task: ``multi_label`` if its probabilities are sigmoids of the logits, not their softmax.
    """

    network: nn.Module
    features: Representation
    channels_last: bool
    classes: tuple[str, ...]
    temperature: float | None
    epoch: int
    config: dict[str, Any]
    adjustment: Adjusts | None = None
    task: Task = "single_label"

    @cached_property
    def predictor(self) -> "Predictor":
        """The same network and features, for a trainer."""
        from birdclf.runs.predictor import Predictor  # imports Lightning, which takes seconds

        return Predictor(self.network, self.features, self.channels_last).eval()


def load_run(
    folder: Path, which: str = "best", trusted: Collection[str] = (), embedder: Path | None = None
) -> LoadedRun:
    """Return the classifier of a run folder, from ``checkpoints/<which>.ckpt`` alone.

    Nothing in the file is executed; :mod:`birdclf.runs.trust` says which classes it may name, beside those of the
    ``trusted`` top-level packages. ``embedder`` is where the file of its frozen network is now, if it has one.

    Raises:
        UserError: If there is no such checkpoint, or it cannot be used.
    """
    file = folder / "checkpoints" / f"{which}.ckpt"
    if not file.is_file():
        raise UserError(
            f"{file} does not exist. Give a run folder whose training got as far as a checkpoint, such as "
            f"outputs/run/2026-01-31_12-00-00."
        )
    content = read_checkpoint(file)
    own = _own(content, file)
    classes = tuple(str(name) for name in own["classes"])
    config = own["config"]
    features = _features(own, file, trusted, embedder)
    network = _network(config.get("model"), trusted, num_classes=len(classes), in_channels=features.shape[0])
    both = nn.ModuleDict({"network": network, "features": features})
    weights = {
        name: value for name, value in content["state_dict"].items() if name.startswith(("network.", "features."))
    }
    _check_classes(weights, len(classes), network, file)
    try:
        both.load_state_dict(weights)
    except RuntimeError as error:
        problem = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(
            f"{file}: the weights are not those of its own configuration: {problem} Was model or features changed in "
            f"the file? Train again, or use another checkpoint."
        ) from error
    temperature = own.get("temperature")
    adjustment = _adjustment(own.get("adjustment"), len(classes), file)
    both.eval()
    channels_last, epoch = bool(config.get("channels_last", True)), int(content["epoch"]) + 1
    task = checked_task(own, file)
    return LoadedRun(network, features, channels_last, classes, temperature, epoch, config, adjustment, task)


def checked_task(own: Mapping[str, Any], file: Path) -> Task:
    """Return the task that a checkpoint or an exported file names; files of older versions name none.

    Raises:
        UserError: If there is no such task.
    """
    task = own.get("task", "single_label")
    if task not in get_args(Task):
        raise UserError(f"{file} is damaged: its task is {task!r}, not one of {', '.join(get_args(Task))}.")
    found: Task = task
    return found


def load_features(file: Path, trusted: Collection[str] = ()) -> Representation:
    """Return the features of a checkpoint, without their normalisation.

    Raises:
        UserError: As :func:`load_run`.
    """
    return _features(_own(read_checkpoint(file), file), file, trusted, None)


def _features(own: dict[str, Any], file: Path, trusted: Collection[str], embedder: Path | None) -> Representation:
    target = (own["config"].get("features") or {}).get("_target_")
    settings = own["features"] | ({} if embedder is None else moved(own["features"], embedder, file))
    return build_features({"_target_": target, **settings}, trusted)


def moved(features: Mapping[str, Any], embedder: Path, of: Path) -> dict[str, str]:
    """Return the setting of features that says where the file of a frozen network is now.

    Raises:
        UserError: If the features of a run, which ``of`` names, have no such file, or there is none.
    """
    if "parts" in features:
        raise UserError(f"--embedder is for a run on one frozen network; {of} has several parts. Put their files back.")
    if "file" not in features:
        raise UserError(f"--embedder is for a run on a frozen network; {of} has features that need none. Leave it out.")
    if not embedder.is_file():
        raise UserError(f"--embedder {embedder} does not exist. Give the .tflite or .onnx file of the frozen network.")
    return {"file": str(embedder)}


def build_features(
    node: Any, trusted: Collection[str] = (), of: str = "the checkpoint", **known: Any
) -> Representation:
    """Build features from an untrusted configuration; the ``parts`` of a fusion one by one, under the same rules.

    Args:
        node: ``_target_`` and its arguments, as plain values; ``parts`` may be a mapping of names to such nodes.
        trusted: Top-level packages that the user trusts beside ``birdclf``.
        of: The file that holds the node, for messages.
        known: Arguments that take the place of those in the node.

    Raises:
        UserError: If a name is not trusted or is no representation, or refuses its arguments.
    """
    kind: type[Representation] = Representation  # type: ignore[type-abstract]
    if isinstance(node, Mapping) and isinstance(node.get("parts"), Mapping):
        given = {str(name): part for name, part in node["parts"].items() if part is not None}
        node = {name: value for name, value in node.items() if name != "parts"}
        named(node, kind, "features", trusted, of)  # before a part is built
        known["parts"] = {
            name: build(part, kind, f"features.parts.{name}", trusted, of) for name, part in given.items()
        }
    return build(node, kind, "features", trusted, of, **known)


def _network(node: Any, trusted: Collection[str], **known: int) -> nn.Module:
    """Build the network without pretrained weights: no other file is opened, nothing is downloaded."""
    named(node, nn.Module, "model", trusted)
    bare = named({"_target_": node["_target_"]}, nn.Module, "model", trusted)
    begun_with: dict[str, Any] = {"pretrained": False} if "pretrained" in {*node, *signature(bare).parameters} else {}
    network: nn.Module = build(node, nn.Module, "model", trusted, **(begun_with | known))
    return network


def _own(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the checked part of a checkpoint that birdclf adds."""
    missing = [name for name in ("birdclf", "state_dict", "epoch") if name not in content]
    if missing:
        raise UserError(f"{file} is no checkpoint of birdclf: it lacks {', '.join(missing)}.")
    own: dict[str, Any] = content["birdclf"]
    if isinstance(own, dict) and isinstance(own.get("format"), int) and own["format"] > CHECKPOINT_FORMAT:
        raise UserError(
            f"{file} has format {own['format']}; this birdclf knows formats up to {CHECKPOINT_FORMAT}. Update birdclf."
        )
    wrong = [name for name, kind in NEEDED.items() if not isinstance(own, dict) or not isinstance(own.get(name), kind)]
    if wrong:
        raise UserError(f"{file} is damaged: birdclf.{', birdclf.'.join(wrong)} is missing or of another type.")
    return own


def _adjustment(own: Any, classes: int, file: Path) -> Adjusts | None:
    """Return the adjustment of logits that a checkpoint holds."""
    if own is None:
        return None
    if isinstance(own, dict) and all(_finite(value) for value in own.values()):
        match own:
            case {"tau": float(tau), "prior": list(prior)} if tau >= 0 and len(prior) == classes and min(prior) > 0:
                return Adjustment(tau, tuple(prior))
            case {"tau": float(tau), "lengths": list(lengths), "bias": list(bias)} if (
                0 <= tau <= 1 and len(lengths) == len(bias) == classes and min(lengths) >= 0
            ):
                return TauNormalised(tau, tuple(lengths), tuple(bias))
            case {"threshold": float(threshold), "accept": float(accept)} if 0 < accept < 1:
                return Rejection(threshold, accept)
    raise UserError(
        f"{file} is damaged: birdclf.adjustment is no tau with a prior, or with lengths and bias, of {classes} classes "
        f"and no threshold of the energy."
    )


def _finite(value: Any) -> bool:
    return all(isinstance(x, float) and math.isfinite(x) for x in (value if isinstance(value, list) else [value]))


def _check_classes(weights: dict[str, Tensor], classes: int, network: nn.Module, file: Path) -> None:
    """Refuse a class list of another length than the logits, before torch reports it as a mismatch of shapes."""
    for name, value in reversed(list(network.state_dict(prefix="network.").items())):
        if name in weights and value.shape[:1] == (classes,) != weights[name].shape[:1]:
            raise UserError(
                f"{file}: the class list has {classes} names, but the network has {weights[name].shape[0]} outputs. "
                f"Was it changed in the file? Use the checkpoint as it was written."
            )
