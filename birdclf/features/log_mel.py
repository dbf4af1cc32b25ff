"""Power by mel band, in dB: the log-mel spectrogram (Davis and Mermelstein, 1980, before their cosine transform)."""

from collections.abc import Sequence
from typing import ClassVar

from birdclf.features.mel import MelFeatures


class LogMel(MelFeatures):
    """Log-mel spectrogram of a window: waveform to power by mel band in dB, and that to ``(C, n_mels, frames)``.

    Values agree with ``librosa.feature.melspectrogram`` (Slaney mel) and ``power_to_db`` with ``top_db`` relative to
    the recording's peak. The arguments are those of :class:`MelFeatures`.

    Raises:
        UserError: If a size is out of range or a window is not a whole number of frames.
    """

    stored_as: ClassVar[str] = "log_mel-1"

    def __init__(
        self,
        sample_rate_hz: int = 32_000,
        window_s: float = 5.0,
        hop: int = 320,
        n_fft: int = 1024,
        n_mels: int = 128,
        f_min_hz: float = 50.0,
        f_max_hz: float = 16_000.0,
        top_db: float = 80.0,
        channels: Sequence[str] = ("static",),
        delta_width: int | None = None,
        padding: str = "repeat",
    ) -> None:
        super().__init__(
            sample_rate_hz=sample_rate_hz, window_s=window_s, hop=hop, n_fft=n_fft, n_mels=n_mels, channels=channels,
            delta_width=delta_width, padding=padding, f_min_hz=f_min_hz, f_max_hz=f_max_hz, top_db=top_db,
        )  # fmt: skip
        self.settings |= {"f_min_hz": float(f_min_hz), "f_max_hz": float(f_max_hz), "top_db": float(top_db)}
