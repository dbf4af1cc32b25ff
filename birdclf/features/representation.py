"""Contract of all features: what is stored of a recording, and the input of a network that is made of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import torch
from torch import Tensor, nn

from birdclf.audio.clip import Clip

LEAST_STD: Final = 1e-5


class Analysis(NamedTuple):
    """Stored features of a recording, or of a part of it."""

    bands: Tensor  # `(F, T)` float32, for MFCC the static coefficients, of an embedder one column per window
    level_db: Tensor  # `(T,)` float32, energy between 1 and 10 kHz in dB, for finding the loudest window


def mean_and_std(stacks: Iterable[Tensor], shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each feature, in float64, the latter at least 1e-5.

    Args:
        stacks: Each ``(B, C, F, frames)``, or ``(B, E)``.
        shape: ``(C, F, 1)`` or ``(E,)``.

    Raises:
        ValueError: If there is no window.
    """
    count, total = 0, torch.zeros(shape, dtype=torch.float64)
    reduced = (0,) if len(shape) == 1 else (0, 3)
    squares = torch.zeros_like(total)
    for stack in stacks:
        stack = stack.double()
        count += stack.numel() // total.numel()
        total += stack.sum(dim=reduced).reshape(shape)
        squares += stack.square().sum(dim=reduced).reshape(shape)
    if not count:
        raise ValueError("no window to fit the normalisation on")
    mean = total / count
    return mean, (squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(LEAST_STD)


class Representation(nn.Module, ABC):
    """Features of a window: waveform to what is stored, and that to the input of a network.

    :meth:`analyse_recording` runs once per recording and is stored; :meth:`forward` runs on every batch, on the device.
    :class:`birdclf.features.mel.MelFeatures` is the base of features over time and frequency,
    :class:`birdclf.features.embedders.embedder.VectorFeatures` of those that give one vector per window.

    Attributes:
        sample_rate_hz: Rate of the waveform.
        padding: Fills a recording shorter than a window: ``repeat`` or ``silence``, in the waveform.
        window_samples: Samples of a window.
        n_bands: Stored values per frame.
        frames: Stored frames per window.
        shape: Shape of one window's features: ``(channels, bands, frames)``, or ``(E,)`` for a vector.
        settings: Arguments of the constructor as plain values.
        mean: Buffer, of the train split, that broadcasts with ``shape``.
        std: Buffer, of the train split, at least 1e-5.
    """

    stored_as: ClassVar[str]
    """Name and version of what is stored, part of the fingerprint."""
    stored_type: str = "float16"
    """Type of the stored values: ``float16``, or ``float32`` where that would lose something."""

    mean: Tensor
    std: Tensor
    sample_rate_hz: int
    padding: str
    window_samples: int
    n_bands: int
    frames: int
    settings: dict[str, Any]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one window's features."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes what is stored."""

    @abstractmethod
    def analyse_blocks(self, blocks: Iterable[Tensor]) -> Iterator[Analysis]:
        """Yield what is stored of a recording in parts, in bounded memory.

        Args:
            blocks: Each ``(samples,)`` float32, mono at ``sample_rate_hz``; a recording shorter than a window is
                padded.
        """

    @abstractmethod
    def analyse_windows(self, waveforms: Tensor) -> Tensor:
        """Return what is stored of windows ``(B, window_samples)``, each a recording: ``(B, F, frames)`` float32."""

    @abstractmethod
    def stack(self, bands: Tensor) -> Tensor:
        """Return the features ``(B, *shape)`` before normalisation, of stored ones ``(B, F, frames)``."""

    def begin_store(self, clips: Sequence[Clip], scratch: Path) -> None:
        """Prepare for a store of these recordings, all of the catalog.

        Args:
            clips: The recordings.
            scratch: Folder for what worker processes share, removed when the store is finished.
        """
        return

    def check_new_sound(self) -> None:
        """Refuse features that cannot be computed for a recording outside the store."""
        return

    def analyse_recording(self, recording_id: str, blocks: Iterable[Tensor]) -> Iterator[Analysis]:
        """Yield the result of :meth:`analyse_blocks` for a recording of the catalog."""
        return self.analyse_blocks(blocks)

    def analyse(self, waveform: Tensor) -> Analysis:
        """Return what is stored of a whole recording.

        Args:
            waveform: ``(samples,)`` float32, mono at ``sample_rate_hz``; padded to the length of a window if shorter.

        Returns:
            ``bands`` ``(F, T)`` and ``level_db`` ``(T,)``.
        """
        parts = list(self.analyse_blocks([waveform]))
        return Analysis(torch.cat([p.bands for p in parts], dim=1), torch.cat([p.level_db for p in parts]))

    def forward(self, bands: Tensor) -> Tensor:
        """Return normalised features of a batch of windows.

        Args:
            bands: ``(B, F, frames)`` as stored, of any float type.

        Returns:
            ``(B, *shape)`` float32: each band, or each value of a vector, with mean 0 and standard deviation 1 over
            the train split.
        """
        return (self.stack(bands) - self.mean) / self.std

    @property
    def normalised_mean(self) -> Tensor:
        """Mean of the train split after normalisation; 0 unless other data set the normalisation."""
        return torch.zeros_like(self.mean)

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Set ``mean`` and ``std`` from windows of the train split.

        Args:
            batches: Each ``(B, F, frames)`` as stored.

        Raises:
            ValueError: If there is no window.
        """
        mean, std = mean_and_std((self.stack(bands) for bands in batches), self.mean.shape)
        self.mean.copy_(mean)
        self.std.copy_(std)
