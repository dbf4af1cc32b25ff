"""Vectors of a frozen network: one per window, a window every hop."""

import math
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from birdclf.audio.clip import AudioError
from birdclf.audio.windows import windows_of
from birdclf.checks import above, choice, in_range, whole
from birdclf.errors import UserError
from birdclf.features.embedders.network import Network, Vectors, Windows, content_hash, open_network, require_reader
from birdclf.features.representation import Analysis, Representation
from birdclf.features.spectrum import LEVEL_HZ, decibels

AT_ONCE: Final = 16
"""Windows that are embedded together."""
LEVEL_FFT: Final = 1024


class VectorFeatures(Representation):
    """Features that are one vector per window: stored ``(E, windows)``, input of a network ``(B, E)``.

    A window begins every ``hop_samples``; where the last one ends before the recording does, one more ends with it.

    Args:
        sample_rate_hz: Rate of the waveform.
        window_samples: Samples of a window.
        hop_samples: Samples from the beginning of one window to that of the next.
        width: E.
        padding: Fills a recording shorter than a window: ``repeat`` or ``silence``, in the waveform.
    """

    frames = 1
    licence: str = ""
    """Of the weights that give the vectors; empty if it is not known."""

    def __init__(self, sample_rate_hz: int, window_samples: int, hop_samples: int, width: int, padding: str) -> None:
        super().__init__()
        self.sample_rate_hz, self.window_samples, self.hop_samples = sample_rate_hz, window_samples, hop_samples
        self.n_bands, self.padding = width, choice("features.padding", padding, ("repeat", "silence"))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one window's features, ``(E,)``."""
        return (self.n_bands,)

    def stack(self, bands: Tensor) -> Tensor:
        """Return vectors ``(B, E)`` float32 of stored ones ``(B, E, 1)``."""
        return bands.squeeze(2).float()

    @abstractmethod
    def embed(self, windows: Windows) -> Vectors:
        """Return the vectors ``(B, E)`` of windows ``(B, window_samples)``."""

    @torch.no_grad()
    def analyse_blocks(self, blocks: Iterable[Tensor]) -> Iterator[Analysis]:
        """Yield the vectors of a recording in parts, from blocks ``(samples,)`` float32."""
        sound = (block.numpy() for block in blocks)
        parts = windows_of(sound, self.sample_rate_hz, self.window_samples, self.hop_samples, self.padding)
        while some := list(islice(parts, AT_ONCE)):
            windows = np.stack([window.samples for window in some])
            vectors = self.embed(windows)
            if not np.isfinite(vectors).all():
                raise AudioError("has an embedding that is not finite", "not_finite")
            yield Analysis(torch.from_numpy(vectors).T, level_db(torch.from_numpy(windows), self.sample_rate_hz))

    def analyse_windows(self, waveforms: Tensor) -> Tensor:
        """Return vectors ``(B, E, 1)`` of windows ``(B, window_samples)``, on their device."""
        vectors = self.embed(waveforms.detach().cpu().numpy())
        return torch.from_numpy(vectors).unsqueeze(2).to(waveforms.device)


class Embedder(VectorFeatures):
    """Vectors of the network in a TFLite or ONNX file, whose weights never change.

    Args:
        file: The file of the network.
        sample_rate_hz: Rate of the sound that it was made for.
        window_s: Length of its window in seconds.
        hop_s: Seconds from the beginning of one window to that of the next; None for a window.
        input: Name of its input; None for the only one.
        output: Name of the output that is the vector, in TFLite of any tensor inside; None for the only output.
        scale: Factor of samples in [-1, 1]; 32768 for a network of 16-bit values.
        peak: Largest magnitude that each window is scaled to; None leaves its level.
        padding: Fills a recording shorter than a window: ``repeat`` or ``silence``.
        content_hash: Hash that the file must have; None for any. A checkpoint has it.
        width: Values of the vector; None asks the file. A checkpoint has it.

    Raises:
        UserError: If a setting is out of range, or the file is missing, is no network, does not fit the other settings
            or has another hash.
    """

    stored_as: ClassVar = "embedder-1"
    stored_type = "float32"
    remedy: ClassVar = (
        "Bring back the file that the run was trained with, or say where it is: features.file=FILE of birdclf train "
        "and prepare, --embedder FILE of other commands."
    )
    """What to do where the file is another one, or gone."""

    def __init__(
        self,
        file: str,
        sample_rate_hz: int,
        window_s: float,
        hop_s: float | None = None,
        input: str | None = None,
        output: str | None = None,
        scale: float = 1.0,
        peak: float | None = None,
        padding: str = "silence",
        content_hash: str | None = None,
        width: int | None = None,
    ) -> None:
        whole("features.sample_rate_hz", sample_rate_hz, 1)
        above("features.window_s", window_s, 0)
        above("features.scale", scale, 0)
        hop_s = hop_of(hop_s, window_s)
        if peak is not None:
            above("features.peak", peak, 0)
        self.file, samples = Path(file).expanduser(), round(window_s * sample_rate_hz)
        hop = max(1, round(hop_s * sample_rate_hz))
        self.input_name, self.output_name, self.scale, self.peak = input, output, scale, peak
        self._network: Network | None = None
        self.content_hash, given = content_hash or "", self.file.is_file()
        if given or content_hash is None or width is None:
            self.content_hash = self._checked_hash(content_hash)
        if width is None:
            self._network = opened = open_network(self.file, samples, torch.get_num_threads(), input, output)
            width = opened.width
        super().__init__(sample_rate_hz, samples, hop, width, padding)
        self.settings: dict[str, Any] = {
            "file": os.path.abspath(self.file), "sample_rate_hz": sample_rate_hz, "window_s": window_s, "hop_s": hop_s,
            "input": input,
            "output": output, "scale": scale, "peak": peak, "padding": padding, "content_hash": self.content_hash,
            "width": width,
        }  # fmt: skip

    def _checked_hash(self, expected: str | None) -> str:
        found = content_hash(self.file)
        if expected not in (None, found):
            raise UserError(
                f"{self.file} is not the network that is needed: its content has the hash {found}, not {expected}. "
                f"{self.remedy}"
            )
        require_reader(self.file)
        return found

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes what is stored; the file counts by its content."""
        stored = {name: value for name, value in self.settings.items() if name not in ("file", "width")}
        return f"{self.stored_as} {sorted(stored.items(), key=str)!r}"

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the open network: another process opens the file again."""
        return {**self.__dict__, "_network": None}

    @property
    def network(self) -> Network:
        """The open network.

        Raises:
            UserError: If the file is gone, or gives vectors of another width.
        """
        if self._network is None:
            if not self.file.is_file():
                raise UserError(
                    f"The network that embeds sound is gone: {self.file} does not exist, whose content had the hash "
                    f"{self.content_hash}. {self.remedy}"
                )
            self._network = open_network(
                self.file, self.window_samples, torch.get_num_threads(), self.input_name, self.output_name
            )
            if self._network.width != self.n_bands:
                raise UserError(
                    f"{self.file} gives vectors of {self._network.width} values; {self.n_bands} are needed. Bring "
                    f"back the file that the run was trained with."
                )
        return self._network

    def check_new_sound(self) -> None:
        """Open the network.

        Raises:
            UserError: If its file is gone, or gives vectors of another width.
        """
        _ = self.network

    def embed(self, windows: Windows) -> Vectors:
        """Return the vectors ``(B, E)`` of windows ``(B, window_samples)``."""
        windows = windows * np.float32(self.scale) if self.scale != 1 else windows
        if self.peak is not None:
            loudest = np.abs(windows).max(axis=1, keepdims=True)
            windows = windows * (np.float32(self.peak) / np.maximum(loudest, np.float32(1e-9)))
        return self.network(windows.astype(np.float32, copy=False))


def hop_of(hop_s: float | None, window_s: float) -> float:
    """Return the hop of windows in seconds, a window for None.

    Raises:
        UserError: If it is less than a hundredth of a window, or more than one.
    """
    return window_s if hop_s is None else in_range("features.hop_s", hop_s, window_s / 100, window_s)


def level_db(windows: Tensor, sample_rate_hz: int) -> Tensor:
    """Return the energy between 1 and 10 kHz of windows ``(B, samples)`` in dB, ``(B,)``."""
    size = min(LEVEL_FFT, windows.shape[1])
    frames = windows.unfold(1, size, size) * torch.hann_window(size)
    power = torch.fft.rfft(frames).abs().square().mean(dim=1)  # (B, bins)
    low, high = (math.ceil(hz * size / sample_rate_hz) for hz in LEVEL_HZ)
    return decibels(power[:, low : high + 1].sum(dim=1))
