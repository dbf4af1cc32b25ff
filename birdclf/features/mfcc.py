"""MFCC, delta and delta-delta as three channels (Davis and Mermelstein, 1980; Furui, 1986)."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torchaudio
from torch import Tensor

from birdclf.checks import require
from birdclf.features.mel import ALL, MelFeatures


class MFCCStack(MelFeatures):
    """MFCC stack of a window: waveform to static coefficients, and those to ``(C, n_mfcc, frames)``.

    Values agree with ``librosa.feature.mfcc`` (Slaney mel, ``power_to_db`` with ``top_db`` relative to the
    recording's peak, orthonormal DCT-II) and with ``librosa.feature.delta(mode="nearest")``. The arguments are those of
    :class:`MelFeatures`, and ``n_mfcc``, the number of coefficients.

    Raises:
        UserError: If a size is out of range or a window is not a whole number of frames.
    """

    stored_as: ClassVar[str] = "mfcc-3"

    dct: Tensor

    def __init__(
        self,
        sample_rate_hz: int = 32_000,
        window_s: float = 5.0,
        hop: int = 320,
        n_fft: int = 1024,
        n_mels: int = 128,
        n_mfcc: int = 20,
        top_db: float = 80.0,
        channels: Sequence[str] = ALL,
        delta_width: int | None = None,
        padding: str = "repeat",
    ) -> None:
        require(1 <= n_mfcc <= n_mels, "features.n_mfcc", n_mfcc, f"between 1 and n_mels={n_mels}")
        super().__init__(
            sample_rate_hz=sample_rate_hz, window_s=window_s, hop=hop, n_fft=n_fft, n_mels=n_mels, channels=channels,
            delta_width=delta_width, padding=padding, n_bands=n_mfcc, top_db=top_db, level_mels=n_mels,
        )  # fmt: skip
        self.settings |= {"n_mfcc": n_mfcc, "top_db": top_db}
        dct = torchaudio.functional.create_dct(n_mfcc, n_mels, norm="ortho").T.contiguous()
        self.register_buffer("dct", dct, persistent=False)

    def to_db(self, bands: Tensor) -> Tensor:
        """Return power by mel band in dB ``(..., n_mels, T)``, smoothed since only ``n_mfcc`` coefficients are kept."""
        with torch.autocast(bands.device.type, enabled=False):
            return self.dct.T @ bands.float()

    def from_db(self, db: Tensor) -> Tensor:
        """Return the coefficients ``(..., n_mfcc, T)`` of power by mel band in dB ``(..., n_mels, T)``."""
        with torch.autocast(db.device.type, enabled=False):
            return self.dct @ db.float()
