"""Base class of features over time and frequency: stored bands of a recording, and channels of a window."""

import math
from collections.abc import Iterable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from birdclf.checks import require, whole
from birdclf.errors import UserError
from birdclf.features import spectrum as spectra
from birdclf.features.representation import Analysis, Representation, mean_and_std
from birdclf.features.spectrum import PowerByProducts, PowerSpectrum, decibels, frame_chunks, pad_short

ORDERS: Final = {"static": 0, "delta": 1, "delta2": 2}
ALL: Final = tuple(ORDERS)
DELTA_WIDTH: Final = 9
"""Default width of deltas in frames."""


def check_channels(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the channels as a tuple.

    Raises:
        UserError: If there is none, or one is unknown or repeated.
    """
    listed = isinstance(channels, Sequence) and not isinstance(channels, str)
    chosen = tuple(map(str, channels)) if listed else ()
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= ORDERS.keys():
        raise UserError(
            f"features.channels is {list(chosen) if listed else channels!r}; it must be a list of one or more of "
            f"{', '.join(ORDERS)}, each once, such as features.channels=[static,delta]."
        )
    return chosen


def check_delta_width(delta_width: int | None, channels: tuple[str, ...]) -> int | None:
    """Return the width of the deltas' fit in frames, None if there are no deltas.

    Raises:
        UserError: If it is out of range, or given where no channel is a delta.
    """
    if channels == ("static",):
        if delta_width is not None:
            raise UserError(
                f"features.delta_width is {delta_width!r}, but features.channels=[static] has no delta, so it would "
                f"change nothing. Leave it out (null), or add delta or delta2 to features.channels."
            )
        return None
    width = DELTA_WIDTH if delta_width is None else delta_width
    require(width >= 5 and width % 2 == 1, "features.delta_width", width, "odd and at least 5")
    return width


def delta_kernels(channels: tuple[str, ...], width: int | None) -> Tensor:
    """Return the filters ``(D, 1, width)`` of the deltas among the channels (Savitzky and Golay, 1964), in order."""
    orders = [ORDERS[name] for name in channels if ORDERS[name]]
    if width is None:
        return torch.empty(0, 1, 1)
    # As scipy.signal.savgol_coeffs computes them, whose import takes half a second more than this one.
    from scipy.linalg import lstsq

    places = np.arange(-(width // 2), width // 2 + 1.0)
    kernels = [
        lstsq(places ** np.arange(order + 1)[:, None], math.factorial(order) * np.eye(order + 1)[order])[0]
        for order in orders
    ]
    return torch.from_numpy(np.stack(kernels)).float().unsqueeze(1)


def stack_channels(bands: Tensor, channels: tuple[str, ...], kernels: Tensor) -> Tensor:
    """Return the channels ``(B, C, F, T)`` float32 of bands ``(B, F, T)``, with edge frames replicated for the deltas.

    Args:
        bands: ``(B, F, T)``, of any float type.
        channels: ``static``, ``delta`` and ``delta2`` in any order.
        kernels: :func:`delta_kernels` of the channels.
    """
    with torch.autocast(bands.device.type, enabled=False):
        bands = bands.float()
        static = bands.unsqueeze(1)
        if not len(kernels):
            return static
        half = kernels.shape[-1] // 2
        padded = functional.pad(bands, (half, half), mode="replicate")
        rows = padded.flatten(0, 1).unsqueeze(1)  # (B F, 1, T + 2 half)
        deltas = functional.conv1d(rows, kernels)  # (B F, D, T)
        deltas = deltas.reshape(*bands.shape[:2], len(kernels), -1).transpose(1, 2)  # (B, D, F, T)
        if "static" not in channels:
            return deltas
        place = channels.index("static")
        return torch.cat([deltas[:, :place], static, deltas[:, place:]], dim=1)


IN_MEMORY: Final = 32 * 2**20
"""Most bytes of mel spectrogram in memory, 10 minutes of 128 bands; a longer recording is spooled to disk."""
SPOOL_FRAMES: Final = 1024
LEVEL_MELS: Final = 128
"""Mel bands of the level, whatever number is stored, so that windows do not depend on the features."""


class MelFeatures(Representation):
    """Features over time and frequency: waveform to stored bands ``(F, T)``, and those to ``(C, F, frames)``.

    This class stores power by mel band, in dB, clipped ``top_db`` below the recording's peak. A recording has
    ``samples // hop`` frames; the last one of the centred transform is dropped. A subclass that stores something else
    overrides :meth:`to_db` and :meth:`from_db`, and possibly :meth:`analyse_blocks` and :meth:`analyse_windows`.

    Attributes:
        mean: ``(C, F, 1)`` buffer, of the train split.
        std: ``(C, F, 1)`` buffer, of the train split, at least 1e-5.
        centres_hz: ``(n_mels,)`` buffer, centres of the mel bands.
        settings: Arguments of the constructor as plain values.

    Args:
        sample_rate_hz: Rate of the waveform.
        window_s: Length of a window in seconds.
        hop: Samples from one frame to the next.
        n_fft: Samples per frame, with a Hann window.
        n_mels: Mel bands.
        channels: One or more of ``static``, ``delta`` and ``delta2``, in any order.
        delta_width: Frames of the deltas' polynomial fit, odd, at least 5; None is 9 where there are deltas.
        padding: Fills a recording shorter than a window: ``repeat`` or ``silence``, in the waveform.
        n_bands: Stored values per frame; None for ``n_mels``.
        f_min_hz: Lowest frequency of the mel bands.
        f_max_hz: Highest one; None is half the sample rate, and then bands may be empty.
        top_db: Values this far below the recording's peak are clipped, in dB.
        level_mels: Mel bands of the level.

    Raises:
        UserError: If a size is out of range or a window is not a whole number of frames.
    """

    stored_as: ClassVar[str] = "mel"
    """Name and version of what is stored, part of the fingerprint."""

    mean: Tensor
    std: Tensor
    banks: Tensor
    window: Tensor
    delta_kernels: Tensor
    centres_hz: Tensor

    def __init__(
        self,
        *,
        sample_rate_hz: int,
        window_s: float,
        hop: int,
        n_fft: int,
        n_mels: int,
        channels: Sequence[str],
        delta_width: int | None,
        padding: str,
        n_bands: int | None = None,
        f_min_hz: float = 0.0,
        f_max_hz: float | None = None,
        top_db: float = float("inf"),
        level_mels: int = LEVEL_MELS,
    ) -> None:
        super().__init__()
        for name, size in (("sample_rate_hz", sample_rate_hz), ("hop", hop), ("n_fft", n_fft), ("n_mels", n_mels)):
            whole(f"features.{name}", size, 1)
        samples = window_s * sample_rate_hz
        require(
            0 < samples < float("inf") and abs(samples / hop - round(samples / hop)) < 1e-6,
            "features.window_s",
            window_s,
            f"a multiple of hop / sample_rate_hz = {hop / sample_rate_hz:g} s",
        )
        require(n_fft >= hop, "features.n_fft", n_fft, f"at least hop={hop}, or sound between frames is lost")
        require(top_db > 0, "features.top_db", top_db, "above 0 dB")
        require(padding in ("repeat", "silence"), "features.padding", padding, "'repeat' or 'silence'")
        self.channels = check_channels(channels)
        self.delta_width = check_delta_width(delta_width, self.channels)
        self.sample_rate_hz, self.hop, self.n_fft = sample_rate_hz, hop, n_fft
        self.top_db, self.padding = top_db, padding
        self.n_bands, self.frames = n_bands or n_mels, round(samples / hop)
        self.window_samples = self.frames * hop
        self.settings: dict[str, Any] = {
            "sample_rate_hz": sample_rate_hz, "window_s": window_s, "hop": hop, "n_fft": n_fft, "n_mels": n_mels,
            "channels": list(self.channels), "padding": padding,
        }  # fmt: skip
        if self.delta_width is not None:
            self.settings["delta_width"] = self.delta_width
        filters = spectra.mel_filters if f_max_hz is None else spectra.filled_mel_filters
        f_max_hz = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
        mel = filters(sample_rate_hz, n_fft, n_mels, f_min_hz, f_max_hz)
        banks = torch.cat([mel, spectra.level_filter(sample_rate_hz, n_fft, level_mels)], dim=1)
        self.bank_blocks = spectra.filled_blocks(banks)
        self.register_buffer("banks", banks, persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.spectrum = PowerSpectrum(n_fft)
        centres_hz = torch.from_numpy(spectra.mel_centres_hz(sample_rate_hz, n_mels, f_min_hz, f_max_hz)).float()
        self.register_buffer("centres_hz", centres_hz, persistent=False)
        self.register_buffer("delta_kernels", delta_kernels(self.channels, self.delta_width), persistent=False)
        self.register_buffer("mean", torch.zeros(len(self.channels), self.n_bands, 1))
        self.register_buffer("std", torch.ones(len(self.channels), self.n_bands, 1))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one window's features: ``(channels, bands, frames)``."""
        return len(self.channels), self.n_bands, self.frames

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes what :meth:`analyse` returns."""
        stored = {name: value for name, value in self.settings.items() if name not in ("channels", "delta_width")}
        return f"{self.stored_as} {sorted(stored.items())!r}"

    @torch.no_grad()
    def analyse_blocks(self, blocks: Iterable[Tensor]) -> Iterator[Analysis]:
        """Yield the result of :meth:`analyse` in parts, in bounded memory, from blocks ``(samples,)`` float32."""
        with SpooledTemporaryFile(max_size=IN_MEMORY) as spool:  # the peak that top_db refers to is known at the end
            peak_db, frames, columns = -torch.inf, 0, self.banks.shape[1]
            for power in self._powers(blocks):
                rows = decibels(power)
                peak_db, frames = max(peak_db, float(rows[:, :-1].max())), frames + len(rows)
                spool.write(rows.numpy().data)
            spool.seek(0)
            for first in range(0, frames - 1, SPOOL_FRAMES):  # the last frame is used for the peak only
                data = spool.read(min(SPOOL_FRAMES, frames - 1 - first) * columns * 4)
                rows = torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(-1, columns)
                yield Analysis(self.from_db(rows[:, :-1].clamp_min(peak_db - self.top_db).T), rows[:, -1])

    def analyse_windows(self, waveforms: Tensor) -> Tensor:
        """Return the stored bands of windows, each as :meth:`analyse` returns it for a whole recording.

        It can be traced for export: control flow does not depend on values.

        Args:
            waveforms: ``(B, frames * hop)`` float32, mono at ``sample_rate_hz``.

        Returns:
            ``(B, F, frames)`` float32.
        """
        db = self._window_power(waveforms)[..., :-1].clamp_min(1e-10).log10() * 10  # (B, frames + 1, n_mels)
        if self.top_db < torch.inf:
            db = torch.maximum(db, db.amax(dim=(1, 2), keepdim=True) - self.top_db)
        return self.from_db(db[:, : self.frames].transpose(1, 2))

    def without_fft(self) -> None:
        """Compute spectra by matrix products from now on, with equal values, for export formats without an FFT."""
        self.spectrum = PowerByProducts(self.spectrum.n_fft, self.spectrum.n_fft)

    def to_db(self, bands: Tensor) -> Tensor:
        """Return power by mel band in dB ``(..., n_mels, T)`` of stored bands ``(..., F, T)``, float32."""
        return bands.float()

    def from_db(self, db: Tensor) -> Tensor:
        """Return stored bands ``(..., F, T)`` of power by mel band in dB ``(..., n_mels, T)``, float32."""
        return db.float()

    def _powers(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield power by mel band, and between 1 and 10 kHz, ``(frames, n_mels + 1)``, of a recording."""
        for chunk in frame_chunks(pad_short(blocks, self.frames * self.hop, self.padding), self.n_fft, self.hop):
            yield self._power(chunk.unfold(0, self.n_fft, self.hop))

    def _window_power(self, waveforms: Tensor) -> Tensor:
        """Return :meth:`_power` ``(B, frames + 1, n_mels + 1)`` of the centred frames of windows ``(B, samples)``."""
        padded = functional.pad(waveforms, (self.n_fft // 2, self.n_fft // 2))
        return self._power(padded.unfold(1, self.n_fft, self.hop))

    def _power(self, frames: Tensor) -> Tensor:
        """Return power by mel band, and between 1 and 10 kHz, ``(..., n_mels + 1)``, of frames ``(..., n_fft)``."""
        power = self.spectrum(frames * self.window)
        rows = power.reshape(-1, power.shape[-1])  # one product of matrices is far faster than a batch of them
        # A filter spans few bins: skipping the zeros of the banks saves three quarters of the time.
        parts = [rows[:, bins] @ self.banks[bins, bands] for bins, bands in self.bank_blocks]
        return torch.cat(parts, dim=1).reshape(*power.shape[:-1], -1)

    def stack(self, bands: Tensor) -> Tensor:
        """Return the channels ``(B, C, F, frames)`` before normalisation."""
        return stack_channels(bands, self.channels, self.delta_kernels)


class FixedMelFeatures(MelFeatures):
    """Mel features with the normalisation that published weights were trained with; the train split does not set it.

    Its one channel is ``static``. The arguments are those of :class:`MelFeatures`, and ``mean`` (subtracted) and
    ``std`` (divisor).

    Attributes:
        train_mean: ``(1, n_mels, 1)`` buffer, mean of the train split before normalisation.
    """

    train_mean: Tensor

    def __init__(self, *, mean: float, std: float, **sizes: Any) -> None:
        super().__init__(channels=["static"], delta_width=None, **sizes)
        self.mean.fill_(mean)
        self.std.fill_(std)
        self.register_buffer("train_mean", self.mean.clone(), persistent=False)

    @property
    def normalised_mean(self) -> Tensor:
        """Mean of the train split after normalisation, ``(1, n_mels, 1)``."""
        return (self.train_mean - self.mean) / self.std

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Measure the mean of the train split; ``mean`` and ``std`` do not change."""
        self.train_mean.copy_(mean_and_std((self.stack(bands) for bands in batches), self.mean.shape)[0])
