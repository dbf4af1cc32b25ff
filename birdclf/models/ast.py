"""Audio Spectrogram Transformer (Gong et al., 2021), by transformers."""

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from birdclf.checks import whole
from birdclf.errors import UserError
from birdclf.models.blocks import dropout_layer
from birdclf.models.head import classifier_layer
from birdclf.models.pretrained import check_pretrained, from_extra, from_hub, load_weights, read_weights

EXTRA: Final = "ast"
PUBLISHED: Final = "MIT/ast-finetuned-audioset-10-10-0.4593"
POSITIONS: Final = "audio_spectrogram_transformer.embeddings.position_embeddings"
PUBLISHED_GRIDS: Final = tuple((112 // stride + 1, 1008 // stride + 1) for stride in (10, 12, 14, 16))
"""Rows and columns of patches of all published weights: 128 bands, 1024 frames, patches of 16 at these strides."""
SILENCE: Final = 4.2677393 / (2 * 4.5689974)
"""Padding of a short window in the library: 0 before AudioSet's normalisation."""


class AudioSpectrogramTransformer(nn.Module):
    """A transformer over overlapping patches of a log-mel spectrogram, of any size.

    Defaults are the published size, 86 million parameters. Windows shorter than ``max_length`` are padded like by the
    library's feature extractor, which is correct for ``features=ast`` only.

    Args:
        in_channels: Channels of the features, which must be 1.
        bands: F, mel bands of the features.
        max_length: Largest T.
        hidden_size: Size of a patch's embedding, a multiple of ``heads``.
        depth: Layers.
        heads: Attention heads of a layer.
        patch: Bands and frames of a patch.
        frequency_stride: Bands from one patch to the next.
        time_stride: Frames from one patch to the next.
        dropout: Share of units dropped in embeddings, layers and before the head in training, in [0, 1).
        pretrained: True downloads AudioSet's weights from the Hugging Face Hub, a path reads a file or folder. Position
            embeddings are cropped, or interpolated where there are fewer.
        head: Last layer, ``linear`` or ``cosine``.
        scale: Scale of the cosine head's logits; None for 30.

    Raises:
        UserError: If transformers is not installed, a size is out of range, or the weights cannot be loaded.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        bands: int = 128,
        max_length: int = 500,
        hidden_size: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch: int = 16,
        frequency_stride: int = 10,
        time_stride: int = 10,
        dropout: float = 0.0,
        pretrained: bool | str = False,
        head: str = "linear",
        scale: float | None = None,
    ) -> None:
        super().__init__()
        check_pretrained(pretrained)
        if in_channels != 1:
            raise UserError(
                f"model: an audio spectrogram transformer takes one channel, not {in_channels}. Use features=ast."
            )
        sizes = {
            "bands": bands, "max_length": max_length, "hidden_size": hidden_size, "depth": depth, "heads": heads,
            "patch": patch, "frequency_stride": frequency_stride, "time_stride": time_stride,
        }  # fmt: skip
        _check(sizes)
        self.bands, self.max_length = bands, max_length
        library = from_extra("transformers", EXTRA)
        settings = library.ASTConfig(
            hidden_size=hidden_size, num_hidden_layers=depth, num_attention_heads=heads,
            intermediate_size=4 * hidden_size, hidden_dropout_prob=dropout_layer(dropout).p,
            attention_probs_dropout_prob=dropout, patch_size=patch, frequency_stride=frequency_stride,
            time_stride=time_stride, max_length=max_length, num_mel_bins=bands, num_labels=num_classes,
        )  # fmt: skip
        self.network: nn.Module = library.ASTForAudioClassification(settings)
        last = classifier_layer(head, hidden_size, num_classes, scale)
        self.network.classifier.dense = nn.Identity()
        if pretrained is not False:
            source = str(from_hub(PUBLISHED)) if pretrained is True else pretrained
            self._load(read_weights(source), source)
        self.classifier = nn.Sequential(dropout_layer(dropout), last)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along frequency and along time."""
        settings = self.network.config
        rows, columns = self.network.audio_spectrogram_transformer.embeddings.get_shape(settings)  # type: ignore[union-attr, operator]
        return int(rows), int(columns)

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``(B, 1, bands, T)``, T at most ``max_length``, to logits ``(B, K)``.

        Raises:
            UserError: If the features are of another shape.
        """
        if x.shape[1:3] != (1, self.bands) or x.shape[3] > self.max_length:
            raise UserError(
                f"model: features are {tuple(x.shape[1:])} (channels, bands, frames), but this audio spectrogram "
                f"transformer takes (1, {self.bands}, up to {self.max_length}). Use features=ast, or set "
                f"model.bands={x.shape[2]} and model.max_length={x.shape[3]}."
            )
        rows = x.squeeze(1).transpose(1, 2)  # (B, T, bands), the library's order
        rows = pad(rows, (0, 0, 0, self.max_length - rows.shape[1]), value=SILENCE)
        logits: Tensor = self.classifier(self.network(rows).logits)
        return logits

    def _load(self, weights: dict[str, Tensor], source: str) -> None:
        weights = {_present_name(name): value for name, value in weights.items()}
        for name, value in weights.items():
            if name.endswith(POSITIONS) and value.ndim == 3:
                weights[name] = fit_positions(value, self.grid)
        load_weights(self.network, weights, source, replaced=("classifier.dense",))


def fit_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return position embeddings for another grid of patches, as in the paper's section 2.2 and its code.

    Along each axis they are cropped to the middle where there are enough, else interpolated. The old grid is inferred
    from the number of patches: that of published weights with this number, else one with as many rows as ``grid``.

    Args:
        positions: ``(1, 2 + rows * columns, D)``; the first two belong to no patch.
        grid: Rows and columns of the new grid.

    Returns:
        ``(1, 2 + grid[0] * grid[1], D)``.

    Raises:
        UserError: If the number of rows cannot be inferred.
    """
    rows, columns = grid
    if positions.shape[1] == 2 + rows * columns:
        return positions
    held = _rows(positions.shape[1] - 2, rows)
    kept = positions[:, 2:].reshape(1, held, -1, positions.shape[2]).permute(0, 3, 1, 2)  # (1, D, rows, columns)
    for axis, wanted in ((2, rows), (3, columns)):
        here = kept.shape[axis]
        if here > wanted:
            kept = kept.narrow(axis, (here - wanted) // 2, wanted)
        elif here < wanted:
            size = (wanted, kept.shape[3]) if axis == 2 else (kept.shape[2], wanted)
            kept = interpolate(kept, size, mode="bilinear", align_corners=False)
    return torch.cat([positions[:, :2], kept.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def _rows(patches: int, wanted: int) -> int:
    """Return the number of rows of a grid with this number of patches."""
    published = {rows * columns: rows for rows, columns in PUBLISHED_GRIDS}
    if patches in published:
        return published[patches]
    usual = PUBLISHED_GRIDS[0][0]
    for rows in (wanted, usual):
        if patches % rows == 0:
            return rows
    raise UserError(
        f"model.pretrained: its position embeddings are of {patches} patches, which make up neither {wanted} rows, as "
        f"model.bands, patch and frequency_stride do, nor {usual}. Choose those that the weights were trained with."
    )


RENAMED: Final[Mapping[str, str]] = {
    ".encoder.layer.": ".layers.", ".attention.attention.query.": ".attention.q_proj.",
    ".attention.attention.key.": ".attention.k_proj.", ".attention.attention.value.": ".attention.v_proj.",
    ".attention.output.dense.": ".attention.o_proj.", ".intermediate.dense.": ".mlp.fc1.",
    ".output.dense.": ".mlp.fc2.",
}  # fmt: skip
"""Parts of weight names in transformers 4, which the published files use, and their names in transformers 5."""


def _present_name(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name


def _check(sizes: dict[str, Any]) -> None:
    for name, value in sizes.items():
        whole(f"model.{name}", value, 1)
    if sizes["hidden_size"] % sizes["heads"]:
        near = sizes["heads"] * math.ceil(sizes["hidden_size"] / sizes["heads"])
        raise UserError(
            f"model.hidden_size is {sizes['hidden_size']}; it must be a multiple of model.heads={sizes['heads']}, such "
            f"as {near}."
        )
    for name in ("bands", "max_length"):
        if sizes["patch"] > sizes[name]:
            raise UserError(f"model.patch is {sizes['patch']}, more than model.{name}={sizes[name]}. Use less.")
