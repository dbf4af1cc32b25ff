"""A recording as a picture: its spectrogram, and above it which species was detected when."""

import io
import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from birdclf.detection.detections import Detection
from birdclf.detection.overview import Overview
from birdclf.quoting import shown

SPECIES: Final = 12
RANGE_DB: Final = 70.0
LONGEST_NAME: Final = 60
MINUTES_FROM_S: Final = 300.0


def timeline(title: str, duration_s: float, found: Sequence[Detection], overview: Overview) -> bytes:
    """Return a PNG: bars of the species with most seconds, as dark as they are sure, above the spectrogram.

    A number behind a name is the highest confidence of its detections.

    Args:
        title: What stands above, such as the file's name.
        duration_s: Length of the recording in seconds.
        found: Its detections.
        overview: Its spectrogram.
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
    surest = {name: max(one.confidence for one in found if one.species == name) for name in names}
    labels = [f"{_words(name)}  {surest[name]:.2f}" for name in names]
    above.set_yticks(range(len(names)), labels=labels, parse_math=False)
    above.tick_params(length=0)
    above.spines[["top", "right"]].set_visible(False)
    hidden = len(seconds) - len(names)
    said = f", {hidden} more species not shown" if hidden else "" if found else ": nothing detected"
    above.set_title(_words(title) + said, loc="left", parse_math=False, fontsize=11)
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
    text = shown(text)
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
