"""Measurements of a recording during decoding, at its native rate and with all its channels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from birdclf.audio.clip import AudioError, Samples, Sound, Waveform
from birdclf.audio.mixing import mean_of_channels

CLIPPED: Final = 0.999
"""Samples of this magnitude or more count as clipped; full scale is 1."""
SILENCE: Final = 10 ** (-90 / 20)
"""A frame of 10 ms with a peak below this, -90 dB of full scale, counts as silent: the resolution of 16 bits."""
FRAME_S: Final = 0.01
REACH_DB: Final = 60.0
"""``top_hz`` is the highest frequency with an energy at most this far below that of the strongest one."""
SPECTRUM: Final = 2048
"""Samples of one spectrum, 22 Hz per bin at 44.1 kHz; at most one spectrum is computed for each second."""
WINDOW: Final = np.hanning(SPECTRUM).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurements of a recording; NaN where unknown.

    Attributes:
        duration_s: Decoded duration.
        header_duration_s: Duration according to the header.
        native_rate_hz: Sample rate of the file.
        peak: Largest absolute sample; full scale is 1.
        rms: Root mean square of all samples.
        dc: Mean of the channel that lies farthest from 0, with its sign.
        clipped_share: Share of samples at full scale.
        silent_share: Share of 10 ms frames in which every channel is below -90 dB.
        mix_loss_db: Power of the channels over that of their mean, in dB: 0 for equal channels, 3 for two independent
            ones, large for opposite phase.
        top_hz: Highest frequency with energy.
        goes_on: Description of what follows the decoded part in the file; empty for nothing.
        audio_hash: XXH3-128 of rate, channels and decoded samples; equal for equal sound.
        error: Name of the problem that prevented decoding, else empty.
        reason: The same in words.
    """

    duration_s: float = 0.0
    header_duration_s: float = math.nan
    native_rate_hz: int = 0
    channels: int = 0
    peak: float = math.nan
    rms: float = math.nan
    dc: float = math.nan
    clipped_share: float = math.nan
    silent_share: float = math.nan
    mix_loss_db: float = math.nan
    top_hz: float = math.nan
    goes_on: str = ""
    audio_hash: str = ""
    error: str = ""
    reason: str = ""


class Meter:
    """Measures a sound while its blocks are read."""

    def __init__(self, sound: Sound) -> None:
        self.sound = sound
        self.hash = xxhash.xxh3_128(f"{sound.sample_rate_hz} {sound.channels}".encode())
        self.samples = self.clipped = self.frames = self.silent = 0
        self.high, self.squares, self.mixed_squares = 0.0, 0.0, 0.0
        self.total = np.zeros(sound.channels)
        self.frame = max(1, round(FRAME_S * sound.sample_rate_hz))
        self.slice = round(2 / FRAME_S) * self.frame
        self.power: NDArray[np.float64] = np.zeros(SPECTRUM // 2 + 1)

    def blocks(self) -> Iterator[Samples]:
        """Yield the sound's blocks after measuring them.

        Raises:
            AudioError: If a sample is not finite, there are no samples, or decoding fails.
        """
        for block in self.sound.blocks:
            for start in range(0, len(block), self.slice):  # small enough to stay in the processor's cache
                self._measure(block[start : start + self.slice])
            if len(block) >= SPECTRUM or self.samples == len(block):  # the spectrum of a shorter end would be blurred
                for k in range(block.shape[1]):  # each channel by itself: their mean may be silence
                    self._add_spectra(block[:, k])
            yield block
        if not self.samples:
            raise AudioError("is empty", "empty")

    def measurement(self, error: AudioError | None = None) -> Measurement:
        """Return the measurement of the blocks so far."""
        sound, n = self.sound, self.samples
        basic = Measurement(
            header_duration_s=sound.header_duration_s,
            native_rate_hz=sound.sample_rate_hz,
            channels=sound.channels,
            error=error.problem if error else "",
            reason=str(error) if error else "",
            goes_on=sound.goes_on(),
        )
        if not n:
            return basic
        mean = self.total / n
        loss = self.squares / sound.channels / self.mixed_squares if self.mixed_squares > 0 else math.inf
        return replace(
            basic,
            duration_s=n / sound.sample_rate_hz,
            peak=self.high,
            rms=math.sqrt(self.squares / (n * sound.channels)),
            dc=float(mean[np.abs(mean).argmax()]),
            clipped_share=self.clipped / (n * sound.channels),
            silent_share=self.silent / self.frames if self.frames else float(self.high < SILENCE),
            mix_loss_db=min(10 * math.log10(max(loss, 1.0)), 200.0) if self.squares > 0 else math.nan,
            top_hz=self._top_hz(),
            audio_hash=self.hash.hexdigest(),
        )

    def _measure(self, block: Samples) -> None:
        flat = np.ascontiguousarray(block).reshape(-1)
        high = self._frame_peaks(flat)
        if not math.isfinite(high):
            raise AudioError("holds samples that are not finite", "not_finite")
        self.hash.update(flat.data)
        self.samples += len(block)
        self.high = max(self.high, high)
        mixed = flat if block.shape[1] == 1 else mean_of_channels(block)
        self.squares += float(np.dot(flat, flat))
        self.mixed_squares += float(np.dot(mixed, mixed))
        self.total += np.ones(len(block), np.float32) @ block
        if high >= CLIPPED:
            self.clipped += int(np.count_nonzero(np.abs(flat) >= CLIPPED))

    def _frame_peaks(self, flat: Samples) -> float:
        """Count frames and silent frames; return the largest absolute sample, NaN if a sample is NaN."""
        step = self.frame * self.sound.channels
        whole = len(flat) // step * step
        frames, rest = flat[:whole].reshape(-1, step), flat[whole:]
        peaks = np.abs(frames).max(axis=1)  # twice as fast as both extremes
        self.frames += len(peaks)
        self.silent += int(np.count_nonzero(peaks < SILENCE))
        return float(np.maximum(peaks.max(initial=0.0), np.abs(rest).max(initial=0.0)))

    def _add_spectra(self, channel: Waveform) -> None:
        length = min(len(channel), SPECTRUM)
        window = WINDOW if length == SPECTRUM else np.hanning(length).astype(np.float32)
        pieces = np.lib.stride_tricks.sliding_window_view(channel, length)[:: max(SPECTRUM, self.slice // 2)]
        spectrum = np.fft.rfft(pieces * window, n=SPECTRUM, axis=1)
        self.power += (spectrum.real**2 + spectrum.imag**2).sum(axis=0, dtype=np.float64)

    def _top_hz(self) -> float:
        strongest = self.power.max()
        if strongest <= 0:
            return math.nan
        bins = np.flatnonzero(self.power >= strongest * 10 ** (-REACH_DB / 10))
        return float(bins[-1]) * self.sound.sample_rate_hz / SPECTRUM
