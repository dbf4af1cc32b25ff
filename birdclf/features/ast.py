"""Log-mel filterbank of the Audio Spectrogram Transformer (Gong et al., 2021), as Kaldi computes it."""

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

import torch
from torch import Tensor
from torch.nn import functional
from torchaudio.compliance import kaldi

from birdclf.checks import require
from birdclf.features.mel import FixedMelFeatures
from birdclf.features.representation import Analysis
from birdclf.features.spectrum import PowerByProducts, frame_chunks, pad_short

RATE_HZ: Final = 16_000
HOP: Final = 160
FRAME: Final = 400
N_FFT: Final = 512
LOWEST_HZ: Final = 20.0
PREEMPHASIS: Final = 0.97
AUDIOSET_MEAN: Final = -4.2677393
AUDIOSET_STD: Final = 4.5689974
DB: Final = 10 / math.log(10)
"""Decibels in a unit of the natural logarithm of power."""


class AstFilterbank(FixedMelFeatures):
    """Logarithm of power by mel band, at 16 kHz: waveform to ``(n_mels, T)``, and that to ``(1, n_mels, frames)``.

    A frame of 25 ms begins every 10 ms; its mean is subtracted, then pre-emphasis of 0.97 and a symmetric Hann window
    are applied. Values agree with those of ``ASTFeatureExtractor`` of transformers. They are normalised by fixed
    values, ``(x - mean) / (2 std)``, with which the published weights were trained; the mean of the train split is
    measured as well.

    The last two frames of a recording extend beyond its end into silence; the library leaves them out.

    Args:
        window_s: Length of a window in seconds.
        n_mels: Mel bands between 20 Hz and 8 kHz.
        mean: Subtracted, in units of the natural logarithm of power; by default that of AudioSet.
        std: Half of the divisor, above 0; by default that of AudioSet.
        padding: Fills a recording shorter than a window: ``repeat`` or ``silence``, in the waveform.

    Raises:
        UserError: If a size is out of range or a window is not a whole number of frames.
    """

    stored_as: ClassVar = "ast-fbank-1"

    kaldi_banks: Tensor
    hann: Tensor

    def __init__(
        self,
        window_s: float = 5.0,
        n_mels: int = 128,
        mean: float = AUDIOSET_MEAN,
        std: float = AUDIOSET_STD,
        padding: str = "repeat",
    ) -> None:
        require(4 <= n_mels <= 128, "features.n_mels", n_mels, "between 4 and 128, or bands would be empty")
        require(0 < std < math.inf, "features.std", std, "above 0")
        require(math.isfinite(mean), "features.mean", mean, "a finite number")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on empty bands of torchaudio's scale, used here for the level only
            super().__init__(
                sample_rate_hz=RATE_HZ, window_s=window_s, hop=HOP, n_fft=N_FFT, n_mels=n_mels, padding=padding,
                mean=mean, std=2 * std,
            )  # fmt: skip
        self.settings = {"window_s": window_s, "n_mels": n_mels, "mean": mean, "std": std, "padding": padding}
        banks, centres_hz = kaldi.get_mel_banks(n_mels, N_FFT, RATE_HZ, LOWEST_HZ, RATE_HZ / 2, 100.0, -500.0, 1.0)
        self.register_buffer("kaldi_banks", functional.pad(banks, (0, 1)).T.contiguous(), persistent=False)
        self.register_buffer("hann", torch.hann_window(FRAME, periodic=False), persistent=False)
        self.register_buffer("centres_hz", centres_hz.flatten().float(), persistent=False)

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes what :meth:`analyse` returns."""
        stored = {name: value for name, value in self.settings.items() if name not in ("mean", "std")}
        return f"{self.stored_as} {sorted(stored.items())!r}"

    @torch.no_grad()
    def analyse_blocks(self, blocks: Iterable[Tensor]) -> Iterator[Analysis]:
        """Yield the result of :meth:`analyse` in parts, in bounded memory, from blocks ``(samples,)`` float32."""
        for chunk in frame_chunks(pad_short(blocks, self.frames * HOP, self.padding), FRAME, HOP, centred=False):
            frames = chunk.unfold(0, FRAME, HOP)  # (T, 400)
            frames = frames - frames.mean(dim=1, keepdim=True)
            level = self.spectrum(frames * self.hann) @ self.banks[:, -1]
            yield Analysis(self._log_bands(frames).T.contiguous(), level.clamp_min(1e-10).log10() * 10)

    def analyse_windows(self, waveforms: Tensor) -> Tensor:
        """Return the stored bands ``(B, n_mels, frames)`` of windows ``(B, samples)``, each as a whole recording."""
        frames = functional.pad(waveforms, (0, FRAME - HOP)).unfold(1, FRAME, HOP)  # (B, frames, 400)
        return self._log_bands(frames - frames.mean(dim=2, keepdim=True)).transpose(1, 2)

    def without_fft(self) -> None:
        """Compute spectra by matrix products from now on, with equal values, for export formats without an FFT."""
        self.spectrum = PowerByProducts(N_FFT, FRAME)

    def _log_bands(self, frames: Tensor) -> Tensor:
        """Return the logarithm of power by mel band ``(..., n_mels)`` of frames ``(..., 400)`` with mean 0."""
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        power = self.spectrum((frames - PREEMPHASIS * before) * self.hann)
        bands: Tensor = (power @ self.kaldi_banks).clamp_min(torch.finfo(torch.float32).eps).log()
        return bands

    def to_db(self, bands: Tensor) -> Tensor:
        """Return power by mel band in dB ``(..., n_mels, T)`` of stored bands, float32."""
        return bands.float() * DB

    def from_db(self, db: Tensor) -> Tensor:
        """Return stored bands ``(..., n_mels, T)`` of power by mel band in dB, float32."""
        return db.float() / DB
