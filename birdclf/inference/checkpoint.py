"""A checkpoint as something that predicts: the file alone is enough."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from birdclf.errors import UserError
from birdclf.evaluation.adjustment import Adjustment, Adjusts
from birdclf.evaluation.tau_norm import TauNormalised
from birdclf.features.representation import Representation
from birdclf.inference.trust import build, named
from birdclf.training.checkpoint import CHECKPOINT_FORMAT, opened

if TYPE_CHECKING:
    from birdclf.training.predictor import Predictor

NEEDED = {"format": int, "classes": list, "features": dict, "config": dict}


@dataclass(frozen=True)
class LoadedRun:
    """What a checkpoint holds.

    Attributes:
        network: With its weights, in evaluation mode, on the CPU.
        features: Fitted ones.
        channels_last: Whether the network was trained in channels-last memory format.
        classes: Names of the K classes, in the order of the logits.
        temperature: What logits are divided by before the softmax; None where none was fitted.
        epoch: Epochs trained.
        config: The run's resolved configuration, as plain values.
        adjustment: What makes other logits of the network's before all else; None where nothing does.
    """

    network: nn.Module
    features: Representation
    channels_last: bool
    classes: tuple[str, ...]
    temperature: float | None
    epoch: int
    config: dict[str, Any]
    adjustment: Adjusts | None = None

    @cached_property
    def predictor(self) -> "Predictor":
        """The same network and features, for a trainer."""
        from birdclf.training.predictor import Predictor  # imports Lightning, which takes seconds

        return Predictor(self.network, self.features, self.channels_last).eval()


def load_run(folder: Path, which: str = "best", trusted: Collection[str] = ()) -> LoadedRun:
    """Return the classifier of a run folder, from ``checkpoints/<which>.ckpt`` alone.

    Nothing in the file is executed; :mod:`birdclf.inference.trust` says which classes it may name.

    Args:
        folder: The run folder.
        which: ``best`` or ``last``.
        trusted: Top-level packages beside ``birdclf`` whose networks may be built.

    Raises:
        UserError: If there is no such checkpoint, or it cannot be used.
    """
    file = folder / "checkpoints" / f"{which}.ckpt"
    if not file.is_file():
        raise UserError(
            f"{file} does not exist. Give a run folder whose training got as far as a checkpoint, such as "
            f"outputs/run/2026-01-31_12-00-00."
        )
    content = opened(file)
    own = _own(content, file)
    classes = tuple(str(name) for name in own["classes"])
    config = own["config"]
    target = (config.get("features") or {}).get("_target_")
    features = build({"_target_": target, **own["features"]}, Representation, "features", trusted)
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
    return LoadedRun(network, features, channels_last, classes, temperature, epoch, config, adjustment)


def _network(node: Any, trusted: Collection[str], **known: int) -> nn.Module:
    """Build the network without the weights that its training began with: no other file is opened, nothing fetched."""
    named(node, nn.Module, "model", trusted)
    bare = named({"_target_": node["_target_"]}, nn.Module, "model", trusted)
    begun_with: dict[str, Any] = {"pretrained": False} if "pretrained" in {*node, *signature(bare).parameters} else {}
    network: nn.Module = build(node, nn.Module, "model", trusted, **(begun_with | known))
    return network


def _own(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return what birdclf adds to a checkpoint, once it is known to be whole."""
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
    raise UserError(
        f"{file} is damaged: birdclf.adjustment is no tau with a prior, or with lengths and bias, of {classes} classes."
    )


def _finite(value: Any) -> bool:
    return all(isinstance(x, float) and math.isfinite(x) for x in (value if isinstance(value, list) else [value]))


def _check_classes(weights: dict[str, Tensor], classes: int, network: nn.Module, file: Path) -> None:
    """Refuse a class list of another length than the logits, which would otherwise show as a matter of shapes."""
    for name, value in reversed(list(network.state_dict(prefix="network.").items())):
        if name in weights and value.shape[:1] == (classes,) != weights[name].shape[:1]:
            raise UserError(
                f"{file}: the class list has {classes} names, but the network has {weights[name].shape[0]} outputs. "
                f"Was it changed in the file? Use the checkpoint as it was written."
            )
