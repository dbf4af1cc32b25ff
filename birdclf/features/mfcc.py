"""MFCC, delta and delta-delta as three channels (Davis and Mermelstein, 1980; Furui, 1986)."""

from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, Final, NamedTuple

import numpy as np
import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from birdclf.errors import UserError
from birdclf.features.framing import at_least, framed

IN_MEMORY: Final = 32 * 2**20
"""Bytes of mel spectrogram, 10 minutes of 128 bands, that may be in memory; a longer recording spills to disk."""
FRAMES_A_CHUNK: Final = 1024
BANDS_A_BLOCK: Final = 16


class Analysis(NamedTuple):
    """What the store keeps of a recording.

    Attributes:
        bands: ``(F, T)`` float32, for MFCC the static coefficients.
        level_db: ``(T,)`` float32, energy between 1 and 10 kHz in dB, which finds the loudest window.
    """

    bands: Tensor
    level_db: Tensor


class MFCCStack(nn.Module):
    """MFCC stack of a window: waveform to static coefficients, and those to ``(3, n_mfcc, frames)``.

    Values agree with ``librosa.feature.mfcc`` (Slaney mel, ``power_to_db`` with ``top_db`` relative to the
    recording's peak, orthonormal DCT-II) and with ``librosa.feature.delta(mode="nearest")``. :meth:`analyse` runs
    once a recording and is stored; :meth:`forward` runs on every batch, on the device.

    Attributes:
        mean: ``(3, n_mfcc, 1)`` buffer, of the train split.
        std: ``(3, n_mfcc, 1)`` buffer, of the train split, at least 1e-5.

    Args:
        sample_rate_hz: Rate of the waveform.
        window_s: Length of a window in seconds.
        hop: Samples from one frame to the next.
        n_fft: Samples a frame, windowed by Hann.
        n_mels: Mel bands.
        n_mfcc: Coefficients kept of each frame.
        top_db: Values this far below the recording's peak are clipped, in dB.
        delta_width: Frames that the deltas' polynomial fit spans, odd, at least 5.
        padding: What fills a recording shorter than a window: ``repeat`` or ``silence``, in the waveform.

    Raises:
        UserError: If a size is out of range or a window is not a whole number of frames.
    """

    mean: Tensor
    std: Tensor
    dct: Tensor
    banks: Tensor
    window: Tensor
    delta_kernels: Tensor

    def __init__(
        self,
        sample_rate_hz: int = 32_000,
        window_s: float = 5.0,
        hop: int = 320,
        n_fft: int = 1024,
        n_mels: int = 128,
        n_mfcc: int = 20,
        top_db: float = 80.0,
        delta_width: int = 9,
        padding: str = "repeat",
    ) -> None:
        super().__init__()
        samples = window_s * sample_rate_hz
        _require(sample_rate_hz > 0 and hop > 0, "sample_rate_hz and hop", (sample_rate_hz, hop), "above 0")
        _require(
            0 < samples < float("inf") and abs(samples / hop - round(samples / hop)) < 1e-6,
            "window_s",
            window_s,
            f"a multiple of hop / sample_rate_hz = {hop / sample_rate_hz:g} s",
        )
        _require(n_fft >= hop, "n_fft", n_fft, f"at least hop={hop}, or sound between frames is lost")
        _require(1 <= n_mfcc <= n_mels, "n_mfcc", n_mfcc, f"between 1 and n_mels={n_mels}")
        _require(top_db > 0, "top_db", top_db, "above 0 dB")
        _require(delta_width >= 5 and delta_width % 2 == 1, "delta_width", delta_width, "odd and at least 5")
        _require(padding in ("repeat", "silence"), "padding", padding, "'repeat' or 'silence'")
        self.sample_rate_hz, self.hop, self.n_fft = sample_rate_hz, hop, n_fft
        self.top_db, self.padding = top_db, padding
        self.n_bands, self.frames = n_mfcc, round(samples / hop)
        self.delta_width = delta_width
        self.settings: dict[str, Any] = {
            "sample_rate_hz": sample_rate_hz,
            "window_s": window_s,
            "hop": hop,
            "n_fft": n_fft,
            "n_mels": n_mels,
            "n_mfcc": n_mfcc,
            "top_db": top_db,
            "delta_width": delta_width,
            "padding": padding,
        }
        banks = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, 0.0, sample_rate_hz / 2, n_mels, sample_rate_hz, norm="slaney", mel_scale="slaney"
        )
        centres_hz = _mel_centres_hz(sample_rate_hz, n_mels)
        heard = torch.from_numpy((centres_hz >= 1_000) & (centres_hz <= 10_000)).float()
        banks = torch.cat([banks, banks @ heard.unsqueeze(1)], dim=1)
        self.bank_blocks = _blocks(banks)
        self.register_buffer("banks", banks, persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer(
            "dct", torchaudio.functional.create_dct(n_mfcc, n_mels, norm="ortho").T.contiguous(), persistent=False
        )
        from scipy.signal import savgol_coeffs  # 60 MB and half a second that worker processes can do without

        kernels = [savgol_coeffs(delta_width, polyorder=order, deriv=order, use="dot") for order in (1, 2)]
        self.register_buffer(
            "delta_kernels", torch.from_numpy(np.stack(kernels)).float().unsqueeze(1), persistent=False
        )
        self.register_buffer("mean", torch.zeros(3, n_mfcc, 1))
        self.register_buffer("std", torch.ones(3, n_mfcc, 1))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one window's features: ``(channels, coefficients, frames)``."""
        return 3, self.n_bands, self.frames

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes what :meth:`analyse` returns."""
        stored = {k: v for k, v in self.settings.items() if k != "delta_width"}
        return f"mfcc-3 {sorted(stored.items())!r}"

    def analyse(self, waveform: Tensor) -> Analysis:
        """Return the static coefficients of a whole recording, and its level.

        Args:
            waveform: ``(samples,)`` float32, mono at ``sample_rate_hz``; padded to a window where shorter.

        Returns:
            ``bands`` ``(n_mfcc, T)`` and ``level_db`` ``(T,)`` with ``T = samples // hop``: a centred transform
            gives one frame more, which is cropped.
        """
        parts = list(self.analyse_blocks([waveform]))
        return Analysis(torch.cat([p.bands for p in parts], dim=1), torch.cat([p.level_db for p in parts]))

    @torch.no_grad()
    def analyse_blocks(self, blocks: Iterable[Tensor]) -> Iterator[Analysis]:
        """Yield what :meth:`analyse` returns of a recording of any length, piece by piece, in bounded memory.

        Args:
            blocks: The waveform in pieces, each ``(samples,)`` float32.
        """
        with SpooledTemporaryFile(max_size=IN_MEMORY) as spool:  # the peak that top_db refers to is known at the end
            peak_db, frames, columns = -torch.inf, 0, self.settings["n_mels"] + 1
            for stretch in framed(at_least(blocks, self.frames * self.hop, self.padding), self.n_fft, self.hop):
                rows = self._power(stretch).clamp_min_(1e-10).log10_().mul_(10)
                peak_db, frames = max(peak_db, float(rows[:, :-1].max())), frames + len(rows)
                spool.write(rows.numpy().data)
            spool.seek(0)
            for first in range(0, frames - 1, FRAMES_A_CHUNK):  # the last frame counts for the peak alone
                data = spool.read(min(FRAMES_A_CHUNK, frames - 1 - first) * columns * 4)
                rows = torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(-1, columns)
                yield Analysis(self.dct @ rows[:, :-1].clamp_min(peak_db - self.top_db).T, rows[:, -1])

    def _power(self, stretch: Tensor) -> Tensor:
        """Return power by mel band, and between 1 and 10 kHz, ``(frames, n_mels + 1)``, of a stretch of samples."""
        spectrum = torch.fft.rfft(stretch.unfold(0, self.n_fft, self.hop) * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        # A filter spans few bins: without the zeros of the banks this takes a quarter of the time.
        parts = [power[:, bins] @ self.banks[bins, bands] for bins, bands in self.bank_blocks]
        return torch.cat(parts, dim=1)

    def forward(self, bands: Tensor) -> Tensor:
        """Return normalised features of a batch of windows.

        Args:
            bands: ``(B, n_mfcc, frames)`` static coefficients, of any float type.

        Returns:
            ``(B, 3, n_mfcc, frames)`` float32: static, delta and delta-delta, each with mean 0 and standard
            deviation 1 over the train split.
        """
        stack = self.stack(bands)
        return (stack - self.mean) / self.std

    def stack(self, bands: Tensor) -> Tensor:
        """Return static, delta and delta-delta ``(B, 3, n_mfcc, frames)`` before normalisation."""
        with torch.autocast(bands.device.type, enabled=False):
            bands = bands.float()
            half = self.delta_width // 2
            padded = functional.pad(bands, (half, half), mode="replicate")
            rows = padded.flatten(0, 1).unsqueeze(1)  # (B F, 1, T + 2 half)
            deltas = functional.conv1d(rows, self.delta_kernels)  # (B F, 2, T)
            deltas = deltas.reshape(*bands.shape[:2], 2, -1).transpose(1, 2)  # (B, 2, F, T)
            return torch.cat([bands.unsqueeze(1), deltas], dim=1)

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Set ``mean`` and ``std`` from windows of the train split.

        Args:
            batches: Each ``(B, n_mfcc, frames)`` static coefficients.

        Raises:
            ValueError: If there is no window.
        """
        count = 0
        total = torch.zeros(self.mean.shape, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for bands in batches:
            stack = self.stack(bands).double()
            count += stack.shape[0] * stack.shape[-1]
            total += stack.sum(dim=(0, 3)).unsqueeze(-1)
            squares += stack.square().sum(dim=(0, 3)).unsqueeze(-1)
        if not count:
            raise ValueError("no window to fit the normalisation on")
        mean = total / count
        self.mean.copy_(mean)
        self.std.copy_((squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(1e-5))


def _blocks(banks: Tensor) -> list[tuple[slice, slice]]:
    """Return ranges of rows and columns that hold all values of ``(bins, bands)`` filters that are not zero."""
    blocks = []
    for first in range(0, banks.shape[1], BANDS_A_BLOCK):
        bands = slice(first, first + BANDS_A_BLOCK)
        bins = banks[:, bands].any(dim=1).nonzero().flatten()  # none, where filters are narrower than a bin
        blocks.append((slice(int(bins[0]), int(bins[-1]) + 1) if len(bins) else slice(0, 1), bands))
    return blocks


def _mel_centres_hz(sample_rate_hz: int, n_mels: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return the centre of each Slaney mel band, in Hz."""
    banks = torchaudio.functional.melscale_fbanks(
        n_freqs=4097, f_min=0.0, f_max=sample_rate_hz / 2, n_mels=n_mels, sample_rate=sample_rate_hz, mel_scale="slaney"
    )
    return np.asarray(banks.argmax(dim=0).numpy() * (sample_rate_hz / 2) / 4096, dtype=np.float64)


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise UserError(f"features.{name} is {value!r}; it must be {allowed}.")
