"""A recording's spectrogram as a picture without axes: the page draws those, in the fonts and colours of its reader."""

import io
from typing import Final

import numpy as np
from matplotlib.image import imsave

from birdclf.detection.overview import Overview

RANGE_DB: Final = 70.0


def spectrogram(overview: Overview) -> tuple[bytes, float]:
    """Return a PNG, low frequencies at the bottom and a column a column of the overview, and the seconds it shows."""
    db = overview.picture()
    high = float(np.percentile(db, 99.9))
    file = io.BytesIO()
    imsave(file, db, vmin=high - RANGE_DB, vmax=high, cmap="magma", origin="lower", format="png")
    return file.getvalue(), db.shape[1] * overview.column_s
