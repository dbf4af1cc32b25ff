"""Decoding of sound files: soundfile reads, soxr resamples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import soundfile
import soxr

from birdclf.audio.clip import AudioError, Clip, Waveform
from birdclf.errors import UserError

EXTENSIONS: Final = frozenset({".wav", ".flac", ".ogg", ".mp3"})


class Header(NamedTuple):
    """What a file says of itself: duration in seconds and sample rate in Hz."""

    duration_s: float
    sample_rate_hz: int


def read_header(path: Path) -> Header | None:
    """Return a file's header, or None where it has none that can be read."""
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError):
        return None
    return Header(info.frames / info.samplerate, info.samplerate)


@dataclass(frozen=True)
class FileReader:
    """Reads clips from wav, flac, ogg and mp3 files.

    Attributes:
        min_duration_s: Shorter clips are refused, in seconds; not negative.

    Raises:
        UserError: If ``min_duration_s`` is negative.
    """

    min_duration_s: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.min_duration_s < float("inf"):
            raise UserError(
                f"data.min_duration_s is {self.min_duration_s}; it must be 0 or more seconds (0.3 is the default)."
            )

    def read(self, clip: Clip, sample_rate_hz: int) -> Waveform:
        """Return the clip as ``(samples,)`` mono float32, the mean of its channels.

        Raises:
            AudioError: If it cannot be decoded, is empty, shorter than ``min_duration_s``, all zeros, or holds
                values that are not finite.
        """
        try:
            with soundfile.SoundFile(clip.path) as file:
                native_hz = file.samplerate
                if clip.start_s:
                    file.seek(min(round(clip.start_s * native_hz), file.frames))
                stretch = clip.end_s - clip.start_s
                frames = -1 if np.isinf(stretch) else round(stretch * native_hz)
                sound = file.read(frames, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(f"cannot be decoded ({_reason(error)})") from error
        duration_s = len(sound) / native_hz
        if not len(sound):
            raise AudioError("is empty")
        if duration_s < self.min_duration_s:
            raise AudioError(f"is {duration_s:.2f} s long, shorter than min_duration_s={self.min_duration_s:g}")
        if not np.isfinite(sound).all():
            raise AudioError("holds samples that are not finite")
        mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1)
        if not mono.any():
            raise AudioError("is digital silence from beginning to end")
        if native_hz != sample_rate_hz:
            mono = soxr.resample(mono, native_hz, sample_rate_hz)
        if not len(mono):
            raise AudioError(f"is too short to resample to {sample_rate_hz} Hz")
        return np.ascontiguousarray(mono, dtype=np.float32)

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes the sound."""
        return f"files-1 min_duration_s={self.min_duration_s!r} channel=mean"


def _reason(error: Exception) -> str:
    text = str(error)
    return text.rsplit(": ", 1)[-1].rstrip(". ") if text else type(error).__name__
