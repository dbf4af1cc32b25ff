"""Image networks of timm (Wightman, 2019) on features as images."""

import difflib
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate

from birdclf.checks import fraction, is_whole, require
from birdclf.errors import UserError
from birdclf.models.blocks import dropout_layer
from birdclf.models.head import classifier_layer
from birdclf.models.pretrained import check_pretrained, from_extra, from_hub, load_weights, read_weights

EXTRA = "timm"


class ImageNetwork(nn.Module):
    """Any network of timm with a linear or cosine head.

    Such networks halve both axes five times, too often for 20 bands. A smaller stride of the first convolution over
    frequency avoids that without interpolating the input, and keeps pretrained weights valid.

    Args:
        in_channels: Channels of the features; a pretrained first convolution is adapted if they are not 3.
        name: Name of the network in timm.
        dropout: Share of the units dropped before the head in training, in [0, 1).
        drop_path: Largest share of recordings for which a block is skipped in training (Huang et al., 2016), in
            [0, 1); it grows from 0 at the first block.
        pretrained: True downloads weights trained on images from the Hugging Face Hub, a path reads them from a file.
        stem_stride: Stride of the first convolution over ``(frequency, time)``; None for timm's.
        size: ``(F, T)`` that features are interpolated to; a network of fixed size needs it.
        time_first: Show images of (time, frequency), as weights from elsewhere may have been trained on.
        head: Last layer, ``linear`` or ``cosine``.
        scale: Scale of the cosine head's logits; None for 30.

    Attributes:
        loaded: Names and outcomes of the tensors of the file ``pretrained``; empty without a file.

    Raises:
        UserError: If timm is not installed, has no such network or refuses an argument, or the weights cannot be
            loaded.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        name: str = "efficientnet_b0",
        dropout: float = 0.2,
        drop_path: float = 0.0,
        pretrained: bool | str = False,
        stem_stride: Sequence[int] | None = None,
        size: Sequence[int] | None = None,
        head: str = "linear",
        scale: float | None = None,
        time_first: bool = False,
    ) -> None:
        super().__init__()
        check_pretrained(pretrained)
        self.size, self.time_first = None if size is None else _pair("size", size), time_first
        image = self.size[::-1] if self.size and time_first else self.size
        self.backbone, self.loaded = _backbone(name, in_channels, drop_path, image, pretrained)
        if stem_stride is not None:
            stride = _pair("stem_stride", stem_stride)
            _restride(self.backbone, name, stride[::-1] if time_first else stride)
        width: Any = getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features
        self.classifier = nn.Sequential(dropout_layer(dropout), classifier_layer(head, int(width), num_classes, scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, in_channels, F, T)`` to logits ``(B, K)``."""
        if self.size is not None:
            x = interpolate(x, self.size, mode="bilinear", align_corners=False, antialias=True)
        if self.time_first:
            x = x.transpose(2, 3)
        logits: Tensor = self.classifier(self.backbone(x))
        return logits


def _backbone(
    name: str, in_channels: int, drop_path: float, size: tuple[int, int] | None, pretrained: bool | str
) -> tuple[nn.Module, dict[str, str]]:
    """Return a network of timm without its head, and what became of the tensors of a file."""
    timm = from_extra("timm", EXTRA)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        hint = f"Did you mean {', '.join(near)}?" if near else "timm.list_models() lists them all."
        raise UserError(f"model.name is {name!r}, which timm does not know. {hint}")
    fraction("model.drop_path", drop_path)
    given: dict[str, Any] = {"in_chans": in_channels, "num_classes": 0}
    try:
        known = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # an unknown tag after the name
        raise UserError(f"model.name is {name!r}: {error} timm.list_pretrained() lists all that there are.") from error
    if known is not None and known.fixed_input_size:
        if size is None:
            raise UserError(
                f"model.name={name} takes inputs of one size only. Give it, such as model.size=[64,512]: features are "
                f"interpolated to it."
            )
        given["img_size"] = size
    if drop_path:
        given["drop_path_rate"] = drop_path
    if pretrained is True:
        given |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(_hub_weights(name, known))}}
    try:
        network: nn.Module = timm.create_model(name, **given)
    except (TypeError, ValueError, RuntimeError, AssertionError, NotImplementedError) as error:
        if "drop_path_rate" in str(error):
            raise _no_drop_path(name) from error
        raise UserError(f"model.name={name}: timm refuses the settings of model.*: {error}") from error
    drops = (module for module in network.modules() if isinstance(module, timm.layers.DropPath))
    if drop_path and not any(module.drop_prob for module in drops):
        raise _no_drop_path(name)
    loaded = _load(network, read_weights(pretrained), pretrained, in_channels) if isinstance(pretrained, str) else {}
    return network, loaded


def _no_drop_path(name: str) -> UserError:
    return UserError(f"model.drop_path is set, but {name} has no blocks that could be skipped. Leave it at 0.")


def _hub_weights(name: str, known: Any) -> Any:
    if known is None or not known.hf_hub_id:
        raise UserError(
            f"model.pretrained is true, but the hub has no weights of {name}. Give a file, model.pretrained=FILE, or "
            f"train from scratch by model.pretrained=false."
        )
    return from_hub(known.hf_hub_id, *([known.hf_hub_filename] if known.hf_hub_filename else []))


def _load(network: nn.Module, weights: dict[str, Tensor], source: str, in_channels: int) -> dict[str, str]:
    """Load the weights of a file, with its first convolution adapted to the channels and without its head.

    Returns:
        Outcome of each tensor of the file, by name.
    """
    adapt = from_extra("timm.models", EXTRA).adapt_input_conv
    # Any of these entries may be missing.
    known: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    adapted = {}
    for layer in _names(known.get("first_conv")):
        for name, value in weights.items():
            if f".{name}".endswith(f".{layer}.weight") and value.ndim == 4 and value.shape[1] != in_channels:
                weights[name] = adapt(in_channels, value, base_chans=value.shape[1])
                adapted[name] = f"fitted: adapted from {value.shape[1]} channels to {in_channels}"
    fitted = load_weights(network, weights, source, replaced=_names(known.get("classifier")))
    return {name: adapted.get(name, "fitted" if name in fitted else "not used") for name in weights}


def _restride(network: nn.Module, name: str, stride: tuple[int, int]) -> None:
    # Any of these entries may be missing.
    known: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    found = [network.get_submodule(layer) for layer in _names(known.get("first_conv"))]
    if len(found) != 1 or not isinstance(found[0], nn.Conv2d) or known.get("fixed_input_size"):
        raise UserError(f"model.stem_stride is set, but the first layer of {name} lets none be chosen. Leave it out.")
    kernel = found[0].kernel_size
    if stride[0] > kernel[0] or stride[1] > kernel[1]:
        raise UserError(
            f"model.stem_stride is {list(stride)}, more than the {kernel[0]} x {kernel[1]} of the first convolution of "
            f"{name}: it would skip part of the features. Use less."
        )
    found[0].stride = stride


def _names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def _pair(name: str, given: Sequence[int]) -> tuple[int, int]:
    values = tuple(given) if not isinstance(given, str | int | float) else ()
    fits = len(values) == 2 and all(is_whole(v) and v >= 1 for v in values)
    require(fits, f"model.{name}", given, "two whole numbers from 1, [frequency,time]")
    return values[0], values[1]
