"""Log-mel spectrogram of Perch 2 (van Merriënboer et al., 2025), for networks that start from its weights."""

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

import torch
from torch import Tensor
from torch.nn import functional
from torchaudio.compliance import kaldi

from birdclf.checks import above, require
from birdclf.features.mel import FixedMelFeatures
from birdclf.features.representation import Analysis

RATE_HZ: Final = 32_000
HOP: Final = 320
FRAME: Final = 640
N_FFT: Final = 1024
HEADROOM_DB: Final = 100.0
"""Added to the power before its floor of -100 dB, so that sound is scaled before the floor of the features applies."""
LEAST_PEAK: Final = 1e-5
"""Sound that is quieter than 16 bits can hold is not scaled further."""


class PerchMel(FixedMelFeatures):
    """Logarithm of the magnitude by mel band: waveform to ``(n_mels, T)``, and that to ``(1, n_mels, frames)``.

    Sound at 32 kHz is scaled to a peak. A frame of 20 ms begins every 10 ms, the first one 5 ms before the sound, with
    a symmetric Hann window of sum 1, and is padded to 1024 samples. Bands are triangles in mel, 1127 ln(1 + f / 700),
    without normalisation. A value is ``scale * ln(max(magnitude, floor))`` and is not normalised further; the mean of
    the train split is measured as well.

    Perch scales each window; here a recording is scaled as a whole, which is the same for one of up to 5 s.

    Args:
        window_s: Length of a window in seconds.
        n_mels: Mel bands.
        f_min_hz: Lowest frequency of the mel bands.
        f_max_hz: Highest one, at most 16 kHz.
        floor: Least magnitude, above 0.
        scale: Factor of the natural logarithm, above 0.
        peak: Largest magnitude of the scaled recording, above 0; None leaves its level.
        padding: Fills a recording shorter than a window: ``repeat`` or ``silence``, in the waveform.

    Raises:
        UserError: If a setting is out of range or a window is not a whole number of frames.
    """

    stored_as: ClassVar = "perch-mel-1"

    perch_banks: Tensor
    short_window: Tensor

    def __init__(
        self,
        window_s: float = 5.0,
        n_mels: int = 128,
        f_min_hz: float = 60.0,
        f_max_hz: float = 16_000.0,
        floor: float = 1e-5,
        scale: float = 0.1,
        peak: float | None = 0.25,
        padding: str = "silence",
    ) -> None:
        require(4 <= n_mels <= 128, "features.n_mels", n_mels, "between 4 and 128, or bands would be empty")
        require(0 <= f_min_hz < f_max_hz, "features.f_min_hz", f_min_hz, f"0 or more, and below f_max_hz={f_max_hz:g}")
        require(f_max_hz <= RATE_HZ / 2, "features.f_max_hz", f_max_hz, f"at most {RATE_HZ // 2} Hz")
        above("features.floor", floor, 0)
        above("features.scale", scale, 0)
        if peak is not None:
            above("features.peak", peak, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on empty bands of torchaudio's scale, which is not used here
            super().__init__(
                mean=0.0, std=1.0, sample_rate_hz=RATE_HZ, window_s=window_s, hop=HOP, n_fft=N_FFT, n_mels=n_mels,
                padding=padding,
            )  # fmt: skip
        self.floor, self.scale, self.peak = float(floor), float(scale), peak
        self.settings = {
            "window_s": window_s, "n_mels": n_mels, "f_min_hz": float(f_min_hz), "f_max_hz": float(f_max_hz),
            "floor": self.floor, "scale": self.scale, "peak": peak, "padding": padding,
        }  # fmt: skip
        banks, centres_hz = kaldi.get_mel_banks(n_mels, N_FFT, RATE_HZ, f_min_hz, f_max_hz, 100.0, -500.0, 1.0)
        self.register_buffer("perch_banks", functional.pad(banks, (0, 1)).T.contiguous(), persistent=False)
        self.register_buffer("centres_hz", centres_hz.flatten().float(), persistent=False)
        hann = torch.hann_window(FRAME, periodic=False)
        before = N_FFT // 2 - HOP // 2  # the centred frame of N_FFT samples begins so many samples earlier
        window = functional.pad(hann / hann.sum(), (before, N_FFT - before - FRAME))
        self.register_buffer("short_window", window, persistent=False)

    @torch.no_grad()
    def analyse_blocks(self, blocks: Iterable[Tensor]) -> Iterator[Analysis]:
        """Yield the result of :meth:`analyse` in parts, in bounded memory, from blocks ``(samples,)`` float32."""
        peak = torch.zeros(())

        def watched() -> Iterator[Tensor]:
            nonlocal peak
            for block in blocks:
                peak = torch.maximum(peak, block.abs().max()) if len(block) else peak
                yield block

        for part in super().analyse_blocks(watched()):  # the first one comes after the last block
            yield Analysis(self._scaled(part.bands, peak), part.level_db)

    def analyse_windows(self, waveforms: Tensor) -> Tensor:
        """Return the stored bands ``(B, n_mels, frames)`` of windows ``(B, samples)``, each as a whole recording."""
        return self._scaled(super().analyse_windows(waveforms), waveforms.abs().amax(dim=1)[:, None, None])

    def _power(self, frames: Tensor) -> Tensor:
        """Return the squared magnitude by mel band, with headroom, and the power between 1 and 10 kHz."""
        magnitude = self.spectrum(frames * self.short_window).sqrt() @ self.perch_banks
        level = self.spectrum(frames * self.window) @ self.banks[:, -1:]
        return torch.cat([magnitude.square() * 10 ** (HEADROOM_DB / 10), level], dim=-1)

    def _scaled(self, bands: Tensor, peak: Tensor) -> Tensor:
        """Return bands without headroom, of sound whose largest magnitude was ``peak``, scaled, with their floor."""
        gain = 1 if self.peak is None else self.peak / peak.clamp_min(LEAST_PEAK)
        shift = torch.as_tensor(gain).log() * self.scale - HEADROOM_DB * self._per_db
        return (bands + shift).clamp_min(self.scale * math.log(self.floor))

    @property
    def _per_db(self) -> float:
        return self.scale * math.log(10) / 20

    def to_db(self, bands: Tensor) -> Tensor:
        """Return the squared magnitude by mel band in dB ``(..., n_mels, T)`` of stored bands, float32."""
        return bands.float() / self._per_db

    def from_db(self, db: Tensor) -> Tensor:
        """Return stored bands ``(..., n_mels, T)`` of the squared magnitude by mel band in dB, float32."""
        return (db.float() * self._per_db).clamp_min(self.scale * math.log(self.floor))
