"""A spectrogram of a recording of any length, in the memory of a picture."""

import io
import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from birdclf.audio.clip import Waveform
from birdclf.detection.detections import Detection
from birdclf.text import printable

COLUMNS: Final = 2048
ROWS: Final = 128
FFT: Final = 1024
STEP_S: Final = 0.025
FLOOR_DB: Final = -100.0
ROUNDING_S: Final = 1e-6


class Overview:
    """Loudest power by stretch of time and frequency; where the time grows too long, stretches grow twice as long."""

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


SPECIES: Final = 12
RANGE_DB: Final = 70.0
LONGEST_NAME: Final = 60
MINUTES_FROM_S: Final = 300.0


def timeline(title: str, duration_s: float, found: Sequence[Detection], overview: Overview) -> bytes:
    """Return a PNG: bars of the species with most seconds, as dark as they are sure, above the spectrogram.

    A number behind a name is the highest confidence of its detections.
    """
    seconds: dict[str, float] = {}
    for one in found:
        seconds[one.species] = seconds.get(one.species, 0.0) + one.end_s - one.start_s
    names = sorted(seconds, key=lambda name: (-seconds[name], name))[:SPECIES]
    rows = max(len(names), 1)
    figure = Figure(figsize=(12, 3.3 + 0.28 * rows), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[0.28 * rows + 0.1, 2.4])
    in_minutes = duration_s >= MINUTES_FROM_S
    unit_s = 60.0 if in_minutes else 1.0
    for row, name in enumerate(names):
        own = [one for one in found if one.species == name]
        spans = [(one.start_s / unit_s, (one.end_s - one.start_s) / unit_s) for one in own]
        above.broken_barh(spans, (row - 0.38, 0.76), color=[_shade(one.confidence) for one in own])
    above.set_ylim(rows - 0.5, -0.5)
    best = {name: max(one.confidence for one in found if one.species == name) for name in names}
    labels = [f"{_words(name)}  {best[name]:.2f}" for name in names]
    above.set_yticks(range(len(names)), labels=labels, parse_math=False)
    above.tick_params(length=0)
    above.spines[["top", "right"]].set_visible(False)
    hidden = len(seconds) - len(names)
    text = f", {hidden} more species not shown" if hidden else "" if found else ": nothing detected"
    above.set_title(_words(title) + text, loc="left", parse_math=False, fontsize=11)
    db = overview.picture()
    high = float(db.max())
    end = db.shape[1] * overview.column_s / unit_s
    below.imshow(
        db, origin="lower", aspect="auto", cmap="magma", vmin=high - RANGE_DB, vmax=high, interpolation="nearest",
        extent=(0, end, 0, overview.rate_hz / 2000),
    )  # fmt: skip
    below.set_xlim(0, max(duration_s / unit_s, 1e-3))
    below.set_xlabel("time in minutes" if in_minutes else "time in s")
    below.set_ylabel("kHz")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a box stands for a letter of no font here
        figure.savefig(file, format="png")
    return file.getvalue()


def _shade(confidence: float) -> str:
    return to_hex(colormaps["viridis_r"](0.15 + 0.85 * float(np.clip(confidence, 0, 1))))


def _words(text: str) -> str:
    text = printable(text)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
