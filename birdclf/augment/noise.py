"""Coloured noise, and other recordings of the batch as background."""

import numpy as np
from torch import Tensor

from birdclf.augment.augmentation import OnPower, Rows, partners, take_rows
from birdclf.augment.spectrum import Spectrum, to_db_, to_power_
from birdclf.features.mel import MelFeatures
from birdclf.features.representation import Representation


class Noise(OnPower):
    """Adds noise with a power density of ``f ** -exponent``, at a signal-to-noise ratio uniform in a range of dB.

    The signal is the whole window, over all bands and frames. The expected power of the noise is added, which is
    constant over time.

    Args:
        min_snr_db: Least ratio in dB, -20 to 80.
        max_snr_db: Greatest ratio in dB, -20 to 80.
        min_exponent: Least exponent, -2 to 2: 0 is white, 1 pink, 2 brown, below 0 blue.
        max_exponent: Greatest exponent; it is uniform between both.

    Raises:
        UserError: If a setting is out of range.
    """

    name = "noise"
    turn = 2
    spectrum: Spectrum

    def __init__(
        self,
        p: float = 0.5,
        min_snr_db: float = 5.0,
        max_snr_db: float = 30.0,
        min_exponent: float = 0.0,
        max_exponent: float = 2.0,
    ) -> None:
        super().__init__(p)
        self.snr_db = self.span("snr_db", min_snr_db, max_snr_db, -20, 80)
        self.exponent = self.span("exponent", min_exponent, max_exponent, -2, 2)

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Set the mel bands."""
        self.spectrum = Spectrum(self.mel(features))

    def forward(self, db: Tensor, rows: Rows, rng: np.random.Generator, bands: Tensor, features: MelFeatures) -> Tensor:
        """Return power of the rows ``(R, M, T)`` in dB with noise."""
        snr_db = take_rows(rng.uniform(*self.snr_db, len(bands)), rows, db.device)
        exponent = take_rows(rng.uniform(*self.exponent, len(bands)), rows, db.device)
        power = to_power_(db)
        level = self.spectrum.mean_power(power) * to_power_(-snr_db)
        return to_db_(power.add_((level[:, None] * self.spectrum.noise(exponent))[:, :, None]))


class Background(OnPower):
    """Adds another recording of the batch at a signal-to-noise ratio uniform in a range of dB; the label stays.

    The ratio is that of the mean powers of both windows, over all bands.

    Args:
        min_snr_db: Least ratio in dB, -20 to 80.
        max_snr_db: Greatest ratio in dB, -20 to 80.

    Raises:
        UserError: If a setting is out of range.
    """

    name = "background"
    turn = 1
    needs_partner = True
    spectrum: Spectrum

    def __init__(self, p: float = 0.5, min_snr_db: float = 5.0, max_snr_db: float = 30.0) -> None:
        super().__init__(p)
        self.snr_db = self.span("snr_db", min_snr_db, max_snr_db, -20, 80)

    def bind(self, features: Representation, class_counts: Tensor) -> None:
        """Set the mel bands."""
        self.spectrum = Spectrum(self.mel(features))

    def forward(self, db: Tensor, rows: Rows, rng: np.random.Generator, bands: Tensor, features: MelFeatures) -> Tensor:
        """Return power of the rows ``(R, M, T)`` in dB with a background."""
        snr_db = take_rows(rng.uniform(*self.snr_db, len(bands)), rows, db.device)
        power, other = to_power_(db), to_power_(features.to_db(bands[partners(len(bands), rng)[rows]]))
        scale = self.spectrum.mean_power(power) / self.spectrum.mean_power(other) * to_power_(-snr_db)
        return to_db_(power.addcmul_(other, scale[:, None, None]))
