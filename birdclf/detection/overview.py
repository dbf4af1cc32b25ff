"""A spectrogram of a recording of any length, in the memory of a picture."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from birdclf.audio.clip import Waveform

COLUMNS: Final = 2048
ROWS: Final = 128
FFT: Final = 1024
STEP_S: Final = 0.025
FLOOR_DB: Final = -100.0
ROUNDING_S: Final = 1e-6


class Overview:
    """Loudest power in each stretch of time and frequency; where the time grows too long, stretches grow twice as long.

    Attributes:
        rate_hz: Sample rate of the sound.
        column_s: Seconds a column.

    Args:
        rate_hz: Sample rate of the sound.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz, self.column_s, self._columns = rate_hz, STEP_S, 0
        self._db: NDArray[np.float32] = np.full((ROWS, COLUMNS), FLOOR_DB, np.float32)
        self._taper = np.hanning(FFT).astype(np.float32)

    def add(self, start_s: float, samples: Waveform) -> None:
        """Add ``(samples,)`` that begin at a time; what was there already may come again."""
        hop = round(STEP_S * self.rate_hz)
        padded = np.pad(samples, (0, max(0, FFT - len(samples))))
        frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::hop]
        power = np.abs(np.fft.rfft(frames * self._taper, axis=1)[:, : FFT // 2]) ** 2
        rows = power.reshape(len(power), ROWS, -1).max(axis=2)
        db = 10 * np.log10(np.maximum(rows, 10 ** (FLOOR_DB / 10)), dtype=np.float32)
        at_s = (
            start_s + np.arange(len(db)) * STEP_S + ROUNDING_S
        )  # else a frame may fall into the column before its own
        while at_s[-1] >= COLUMNS * self.column_s:
            self._fold()
        column = np.minimum((at_s / self.column_s).astype(np.int64), COLUMNS - 1)  # the quotient may be rounded up
        np.maximum.at(self._db.T, column, db)
        self._columns = max(self._columns, int(column[-1]) + 1)

    def picture(self) -> NDArray[np.float32]:
        """Return ``(rows, columns)`` in dB, low frequencies first."""
        return self._db[:, : max(self._columns, 1)]

    def _fold(self) -> None:
        halves = np.maximum(self._db[:, ::2], self._db[:, 1::2])
        self._db = np.concatenate([halves, np.full_like(halves, FLOOR_DB)], axis=1)
        self.column_s *= 2
        self._columns = -(-self._columns // 2)
