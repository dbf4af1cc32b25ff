"""The spectrogram of the page."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from birdclf.detection.timeline import COLUMNS, STEP_S, Overview
from birdclf.serving.session import spectrogram


@pytest.mark.parametrize("seconds", [3.0, 30.0, COLUMNS * STEP_S, 130.0])
def test_steady_noise_has_no_dark_column(seconds: float):
    overview, rng = Overview(8000), np.random.default_rng(0)
    for start_s in np.arange(0, seconds, 2.5):
        overview.add(float(start_s), rng.uniform(-0.5, 0.5, 8000 * 5).astype(np.float32))
    file, shown_s = spectrogram(overview)
    brightness = imread(io.BytesIO(file))[:, :, :3].mean(axis=(0, 2))
    assert brightness.min() > 0.8 * np.median(brightness)
    assert abs(len(brightness) * overview.column_s - shown_s) < 1e-9 and seconds <= shown_s < seconds + 6


def test_high_frequencies_are_at_the_top():
    overview = Overview(8000)
    overview.add(0.0, np.sin(2 * np.pi * 3500 * np.arange(8000) / 8000).astype(np.float32))
    rows = imread(io.BytesIO(spectrogram(overview)[0]))[:, :, :3].mean(axis=(1, 2))
    assert rows.argmax() == pytest.approx(128 * (1 - 3500 / 4000), abs=2)
