"""Probes: small networks on vectors of a frozen embedder, and the pooling of a recording's windows."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from birdclf.checks import above, choice, fraction, whole
from birdclf.errors import UserError
from birdclf.models.head import USUAL_SCALE, CosineLinear

POOLS: Final = ("mean", "max", "log_mean_exp", "attention")
SHARPNESS: Final = 1.0
ATTENTION_UNITS: Final = 128
NORMS: Final = ("none", "layer", "batch")


def in_format(features: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return features ``(W, C, F, T)`` in a memory format; vectors ``(W, E)`` have only one."""
    return features.contiguous(memory_format=memory_format) if features.ndim == 4 else features


def mean_by_owner(values: Tensor, owner: Tensor, recordings: int) -> Tensor:
    """Return the mean over each recording's windows, ``(W, D)`` to ``(B, D)``, of owners ``(W,)`` from 0 to B - 1."""
    sums = values.new_zeros(recordings, values.shape[1]).index_add_(0, owner, values)
    return sums / torch.bincount(owner, minlength=recordings)[:, None]


def max_by_owner(values: Tensor, owner: Tensor, recordings: int) -> Tensor:
    """Return the largest value over each recording's windows, ``(W, D)`` to ``(B, D)``."""
    index = owner[:, None].expand_as(values)
    return values.new_full((recordings, values.shape[1]), -torch.inf).scatter_reduce(0, index, values, "amax")


class Attention(nn.Module):
    """Gated attention over a recording's windows (Ilse et al., 2018, equation 9).

    Args:
        width: E, of a window's vector.
        units: Of the hidden layer.
    """

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(width, units), nn.Linear(width, units)
        self.score = nn.Linear(units, 1)

    def forward(self, vectors: Tensor, owner: Tensor, recordings: int) -> Tensor:
        """Return the weights ``(W, 1)`` of vectors ``(W, E)``; those of a recording sum to 1."""
        score = self.score(torch.tanh(self.content(vectors)) * torch.sigmoid(self.gate(vectors))).float()
        score = (score - max_by_owner(score, owner, recordings)[owner]).exp()
        sums = score.new_zeros(recordings, 1).index_add_(0, owner, score)
        weights: Tensor = score / sums[owner]
        return weights


class Probe(nn.Module):
    """Base of probes: vectors ``(W, E)`` of windows to logits ``(W, K)``, and these to one row a recording.

    Args:
        width: E.
        pool: How the logits of a recording's windows become one row: ``mean``; ``max`` of each class;
            ``log_mean_exp``, a smooth maximum; or ``attention``, a mean with learnt weights.
        sharpness: Of ``log_mean_exp``, above 0: towards 0 it is the mean, towards infinity the maximum; None for 1.
        attention_units: Hidden units of ``attention``; None for 128.

    Raises:
        UserError: If a setting is unknown or out of range, or belongs to another pool.
    """

    def __init__(self, width: int, pool: str, sharpness: float | None, attention_units: int | None) -> None:
        super().__init__()
        self.pool = choice("model.pool", pool, POOLS)
        for name, value, owner in (
            ("sharpness", sharpness, "log_mean_exp"),
            ("attention_units", attention_units, "attention"),
        ):
            if value is not None and pool != owner:
                raise UserError(f"model.{name} is {value}, but only model.pool={owner} has it. Leave it out (null).")
        self.sharpness = above("model.sharpness", SHARPNESS if sharpness is None else sharpness, 0)
        units = whole("model.attention_units", ATTENTION_UNITS if attention_units is None else attention_units, 1)
        # The output layer has to be the last one that is registered.
        self.attention = Attention(width, units) if pool == "attention" else None

    def pool_windows(self, logits: Tensor, vectors: Tensor, owner: Tensor, recordings: int) -> Tensor:
        """Return one row of logits a recording, ``(B, K)``.

        Args:
            logits: ``(W, K)`` of windows.
            vectors: ``(W, E)`` of the same windows.
            owner: ``(W,)`` position of each window's recording, ascending from 0.
            recordings: B.
        """
        logits = logits.float()
        if self.pool == "max":
            return max_by_owner(logits, owner, recordings)
        if self.attention is not None:
            weighted: Tensor = logits * self.attention(vectors, owner, recordings)
            return weighted.new_zeros(recordings, logits.shape[1]).index_add_(0, owner, weighted)
        if self.pool == "log_mean_exp":
            most = max_by_owner(logits, owner, recordings).detach()
            mean = mean_by_owner(((logits - most[owner]) * self.sharpness).exp(), owner, recordings)
            return mean.log() / self.sharpness + most
        return mean_by_owner(logits, owner, recordings)


class OneLayerProbe(Probe):
    """Base of probes of one layer after dropout, which ``layer`` makes: ``(W, E)`` to ``(W, K)``."""

    def __init__(
        self,
        layer: Callable[[], nn.Module],
        width: int,
        dropout: float,
        pool: str,
        sharpness: float | None,
        attention_units: int | None,
    ) -> None:
        super().__init__(width, pool, sharpness, attention_units)
        self.dropout = nn.Dropout(fraction("model.dropout", dropout))
        self.classifier = layer()  # after the attention's weights: the output layer is the last

    def forward(self, x: Tensor) -> Tensor:
        """Map vectors ``(W, E)`` to logits ``(W, K)``."""
        logits: Tensor = self.classifier(self.dropout(x))
        return logits


class LinearProbe(OneLayerProbe):
    """One linear layer, multinomial logistic regression.

    Args:
        num_classes: K.
        in_channels: E, values of a vector.
        dropout: Share of the vector's values that are dropped in training, in [0, 1).
        pool: As for :class:`Probe`, as are ``sharpness`` and ``attention_units``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        dropout: float = 0.0,
        pool: str = "mean",
        sharpness: float | None = None,
        attention_units: int | None = None,
    ) -> None:
        layer = partial(nn.Linear, in_channels, num_classes)
        super().__init__(layer, in_channels, dropout, pool, sharpness, attention_units)


class MLPProbe(Probe):
    """One hidden layer, as in BirdNET's custom classifiers (Kahl et al., 2021, and its guide).

    Args:
        num_classes: K.
        in_channels: E, values of a vector.
        hidden: Units of the hidden layer.
        dropout: Share of the vector's values, and of the hidden units, that are dropped in training, in [0, 1).
        norm: Of the hidden layer: ``none``, ``layer`` or ``batch``.
        pool: As for :class:`Probe`, as are ``sharpness`` and ``attention_units``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        hidden: int = 512,
        dropout: float = 0.3,
        norm: str = "layer",
        pool: str = "mean",
        sharpness: float | None = None,
        attention_units: int | None = None,
    ) -> None:
        super().__init__(in_channels, pool, sharpness, attention_units)
        whole("model.hidden", hidden, 1)
        fraction("model.dropout", dropout)
        choice("model.norm", norm, NORMS)
        norms: dict[str, Any] = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
        self.hidden = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(in_channels, hidden), norms[norm](hidden), nn.GELU(), nn.Dropout(dropout)
        )
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map vectors ``(W, E)`` to logits ``(W, K)``."""
        logits: Tensor = self.classifier(self.hidden(x))
        return logits


class CosineProbe(OneLayerProbe):
    """Cosine of the vector and a weight a class, times a scale: a class's count has no part in the length of it.

    Args:
        num_classes: K.
        in_channels: E, values of a vector.
        scale: Largest magnitude of a logit; None for 30.
        dropout: Share of the vector's values that are dropped in training, in [0, 1).
        pool: As for :class:`Probe`, as are ``sharpness`` and ``attention_units``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        scale: float | None = None,
        dropout: float = 0.0,
        pool: str = "mean",
        sharpness: float | None = None,
        attention_units: int | None = None,
    ) -> None:
        layer = partial(CosineLinear, in_channels, num_classes, USUAL_SCALE if scale is None else scale)
        super().__init__(layer, in_channels, dropout, pool, sharpness, attention_units)


class Prototypes(CosineLinear):
    """Several directions a class; a logit is the log of the mean over them of ``exp(scale * cos)``.

    That is the log-likelihood of a mixture of von Mises-Fisher distributions of equal weights and concentration
    (Banerjee et al., 2005, equation 2.4), up to a constant.

    Args:
        in_features: E.
        num_classes: K.
        prototypes: Directions a class, 1 or more.
        scale: Concentration, above 0.
    """

    def __init__(self, in_features: int, num_classes: int, prototypes: int, scale: float) -> None:
        super().__init__(in_features, num_classes, scale)
        whole("model.prototypes", prototypes, 1)
        self.weight = nn.Parameter(functional.normalize(torch.randn(num_classes, prototypes, in_features), dim=2))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, E)`` to logits ``(B, K)`` of at most the scale."""
        with torch.autocast(x.device.type, enabled=False):
            each = functional.normalize(self.weight.float(), dim=2).flatten(0, 1)  # (K P, E)
            cosine = functional.linear(functional.normalize(x.float()), each)
            cosine = cosine.reshape(len(x), *self.weight.shape[:2])
            mean: Tensor = (self.scale * cosine).logsumexp(dim=2)
        return mean - math.log(self.weight.shape[1])


class PrototypeProbe(OneLayerProbe):
    """Nearest of several prototypes a class: species have several calls.

    Args:
        num_classes: K.
        in_channels: E, values of a vector.
        prototypes: Prototypes a class.
        scale: Largest magnitude of a logit; None for 30.
        dropout: Share of the vector's values that are dropped in training, in [0, 1).
        pool: As for :class:`Probe`, as are ``sharpness`` and ``attention_units``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        prototypes: int = 3,
        scale: float | None = None,
        dropout: float = 0.0,
        pool: str = "mean",
        sharpness: float | None = None,
        attention_units: int | None = None,
    ) -> None:
        layer = partial(Prototypes, in_channels, num_classes, prototypes, USUAL_SCALE if scale is None else scale)
        super().__init__(layer, in_channels, dropout, pool, sharpness, attention_units)
