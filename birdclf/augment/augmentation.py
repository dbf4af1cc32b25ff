"""Base class of augmentations, and a subclass for each of the four places in a training step."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from birdclf.checks import in_range
from birdclf.errors import UserError
from birdclf.features.mel import MelFeatures
from birdclf.features.representation import Representation
from birdclf.targets import Task

Rows = NDArray[np.int64]
"""``(R,)`` positions in the batch of the windows that an augmentation acts on, ascending."""


class Augmentation(nn.Module, ABC):
    """A random change of windows in training, applied to each window of a batch with probability ``p``.

    Each draws for the whole batch and then selects its rows, so the drawn values do not depend on ``p``.

    Attributes:
        name: Its key in ``augment``.
        turn: Its position among the augmentations of the same place: the order in which sound is changed on its way
            from the bird to the recorder, whatever the order on the command line.
        needs_partner: It uses a second recording of the batch.
        task: Targets that it takes: one class, sets of classes, or None for either.

    Args:
        p: Probability for each window, 0 to 1.

    Raises:
        UserError: If ``p`` is out of range.
    """

    name: ClassVar[str]
    turn: ClassVar[int] = 10
    needs_partner: ClassVar[bool] = False
    task: ClassVar[Task | None] = None

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = self.number("p", p, 0, 1)

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Set what depends on the features and on the ``(K,)`` train recordings of each class.

        Raises:
            UserError: If a setting does not fit these features.
        """
        return

    @classmethod
    def mel(cls, features: Representation) -> MelFeatures:
        """Return the features as ones over time and frequency, or raise a UserError."""
        if not isinstance(features, MelFeatures):
            raise UserError(
                f"augment.{cls.name} changes sound over time and frequency, but these features are one vector per "
                f"window. Remove {cls.name} from augment; mixup, remix and jitter act on vectors."
            )
        return features

    @classmethod
    def require(cls, holds: bool, setting: str, value: object, allowed: str) -> None:
        """Raise a UserError that names a setting, its value and what it must be, unless it holds."""
        if not holds:
            raise UserError(f"augment.{cls.name}.{setting} is {value!r}; it must be {allowed}.")

    @classmethod
    def number(cls, setting: str, value: float, low: float, high: float = math.inf) -> float:
        """Return a finite number between two limits, or raise a UserError."""
        return in_range(f"augment.{cls.name}.{setting}", value, low, high)

    @classmethod
    def span(cls, unit: str, least: float, most: float, low: float, high: float) -> tuple[float, float]:
        """Return the range from ``min_<unit>`` to ``max_<unit>``, or raise a UserError."""
        cls.number(f"min_{unit}", least, low, high)
        cls.number(f"max_{unit}", most, low, high)
        cls.require(least <= most, f"min_{unit}", least, f"at most max_{unit}={most:g}")
        return least, most


class OnBands(Augmentation):
    """Acts on stored bands, before deltas and normalisation."""

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Refuse features that are not over time and frequency."""
        self.mel(features)

    @abstractmethod
    def forward(self, bands: Tensor, rows: Rows, rng: np.random.Generator, features: MelFeatures) -> Tensor:
        """Return bands ``(B, F, T)`` float32 with the rows changed."""


class OnPower(Augmentation):
    """Acts on the power of mel bands, before deltas and normalisation.

    For MFCC that is the transposed DCT of the kept coefficients, a smoothed spectrum. Powers are added, as is right on
    average for independent signals; phases are ignored.
    """

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Refuse features that are not over time and frequency."""
        self.mel(features)

    @abstractmethod
    def forward(self, db: Tensor, rows: Rows, rng: np.random.Generator, bands: Tensor, features: MelFeatures) -> Tensor:
        """Return changed power of the rows.

        Args:
            db: ``(R, M, T)`` power of the rows in dB, which may be changed in place.
            rows: ``(R,)`` their positions in the batch.
            rng: Random generator of this batch and augmentation.
            bands: ``(B, F, T)`` stored bands of the whole batch, before any change of power.
            features: Feature module of the run.
        """


class OnFeatures(Augmentation):
    """Acts on normalised features."""

    @abstractmethod
    def forward(self, x: Tensor, rows: Rows, rng: np.random.Generator) -> Tensor:
        """Return features ``(B, *shape)`` with the rows changed."""


class Bags:
    """Windows of each recording of a batch.

    Args:
        owner: ``(W,)`` recording of each window, ascending; None where each recording has one window.
    """

    def __init__(self, owner: NDArray[np.int64] | None = None) -> None:
        self.owner = owner

    def paired(
        self, rows: Rows, partner: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the windows ``(V,)`` of some recordings, those that they are mixed with, and their places in rows.

        Args:
            rows: ``(R,)`` recordings, ascending.
            partner: ``(R,)`` recording that each is mixed with.
        """
        if self.owner is None:
            return rows, partner, np.arange(len(rows))
        counts = np.bincount(self.owner, minlength=int(max(rows.max(), partner.max())) + 1)
        first = np.cumsum(counts) - counts
        place = np.repeat(np.arange(len(rows)), counts[rows])
        nth = np.arange(len(place)) - np.repeat(np.cumsum(counts[rows]) - counts[rows], counts[rows])
        return first[rows][place] + nth, first[partner][place] + nth % counts[partner][place], place


ONE_EACH: Final = Bags()


class OnPairs(Augmentation):
    """Mixes normalised features and targets of pairs of windows."""

    needs_partner = True

    @abstractmethod
    def forward(
        self, x: Tensor, target: Tensor, rows: Rows, rng: np.random.Generator, bags: Bags = ONE_EACH
    ) -> tuple[Tensor, Tensor]:
        """Return features ``(W, ...)``, and probabilities or sets ``(B, K)``.

        Args:
            x: ``(W, ...)`` normalised features of windows.
            target: ``(B,)`` classes of recordings, or ``(B, K)`` sets.
            rows: ``(R,)`` recordings to mix.
            rng: Random generator of this batch and augmentation.
            bags: Which windows a recording has.
        """


Number = TypeVar("Number", np.int64, np.float64)


def take_rows(values: NDArray[Number], rows: Rows, device: torch.device) -> Tensor:
    """Return the rows of values drawn for a batch, ``(R, ...)``, int64 or float32 on a device."""
    chosen = torch.from_numpy(values[rows])
    return chosen.to(device, torch.float32 if chosen.is_floating_point() else torch.int64)


def partners(size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``(B,)`` positions, for each window of a batch that of another one, drawn uniformly; B is 2 or more."""
    return (np.arange(size) + rng.integers(1, size, size)) % size


def replace_rows(whole: Tensor, rows: Rows, part: Tensor) -> Tensor:
    """Return a copy of a tensor ``(B, ...)`` with some rows replaced by ``(R, ...)``."""
    if len(rows) == len(whole):
        return part
    return whole.index_copy(0, torch.from_numpy(rows).to(whole.device), part)
