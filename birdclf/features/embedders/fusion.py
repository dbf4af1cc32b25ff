"""Several representations of the same stretch of sound as one vector."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from birdclf.audio.clip import Waveform
from birdclf.audio.resampling import resample_blocks
from birdclf.checks import above
from birdclf.errors import UserError
from birdclf.features.embedders.embedder import VectorFeatures, hop_of
from birdclf.features.embedders.network import Vectors, Windows
from birdclf.features.embedders.vectors import PrecomputedVectors
from birdclf.features.mel import MelFeatures
from birdclf.features.representation import Representation


class Fusion(VectorFeatures):
    """Concatenated summaries of a window by several representations, each at its own sample rate.

    An embedder gives the mean of its vectors within the window; features over time and frequency give mean and standard
    deviation over frames of each band of each channel.

    Args:
        parts: Representations by any name, in the order of the vector; None leaves one out.
        window_s: Length of a window in seconds, at least the longest window of the parts; None for that.
        hop_s: Seconds from the beginning of one window to that of the next, at most a window; None for a window.
        padding: Fills a recording shorter than a window: ``repeat`` or ``silence``.

    Raises:
        UserError: If there is no part, one is no representation or needs more than the sound, or a setting is out of
            range.
    """

    stored_as: ClassVar = "fusion-2"
    stored_type = "float32"

    def __init__(
        self,
        parts: Mapping[str, Representation],
        window_s: float | None = None,
        hop_s: float | None = None,
        padding: str = "repeat",
    ) -> None:
        chosen = {str(name): part for name, part in parts.items() if part is not None}
        if not chosen:
            raise UserError("features.parts is empty. Choose one or more: features@features.parts.first=birdnet")
        for name, part in chosen.items():
            if not isinstance(part, Representation) or isinstance(part, Fusion | PrecomputedVectors):
                raise UserError(
                    f"features.parts.{name} is a {type(part).__name__}; it must be features that are computed from "
                    f"sound, such as features@features.parts.{name}=mfcc, with a + before it for a new part."
                )
        longest = max(part.window_samples / part.sample_rate_hz for part in chosen.values())
        window_s = longest if window_s is None else above("features.window_s", window_s, 0)
        if window_s < longest:
            raise UserError(
                f"features.window_s is {window_s:g}, but a part has windows of {longest:g} s. Set it to that or more, "
                f"or give the part a shorter window, such as features.parts.second.window_s={window_s:g}."
            )
        hop_s = hop_of(hop_s, window_s)
        rate = max(part.sample_rate_hz for part in chosen.values())
        width = sum(
            part.n_bands if isinstance(part, VectorFeatures) else 2 * math.prod(part.shape[:-1])
            for part in chosen.values()
        )
        super().__init__(rate, round(window_s * rate), max(1, round(hop_s * rate)), width, padding)
        # Not submodules: they compute on the CPU, and the normalisation is that of the whole vector.
        self.parts = list(chosen.values())
        licences = [part.licence for part in self.parts if isinstance(part, VectorFeatures) and part.licence]
        self.licence = ", ".join(dict.fromkeys(licences))
        self.settings: dict[str, Any] = {
            "parts": {
                name: {"_target_": f"{type(part).__module__}.{type(part).__qualname__}"} | part.settings
                for name, part in chosen.items()
            },
            "window_s": window_s, "hop_s": hop_s, "padding": padding,
        }  # fmt: skip

    def fingerprint(self) -> str:
        """Return a text that changes with every setting that changes what is stored."""
        own = (self.sample_rate_hz, self.window_samples, self.hop_samples, self.padding)
        parts = [
            (part.fingerprint(), *((part.channels, part.delta_width) if isinstance(part, MelFeatures) else ()))
            for part in self.parts
        ]
        return f"{self.stored_as} {own} {parts}"

    def check_new_sound(self) -> None:
        """Refuse a part that cannot be computed.

        Raises:
            UserError: If there is one.
        """
        for part in self.parts:
            part.check_new_sound()

    def embed(self, windows: Windows) -> Vectors:
        """Return the vectors ``(B, E)`` of windows ``(B, window_samples)``."""
        return np.stack([np.concatenate([self._summary(part, one) for part in self.parts]) for one in windows])

    @torch.no_grad()
    def _summary(self, part: Representation, window: Waveform) -> Waveform:
        """Return what a part gives of a window ``(window_samples,)``: a vector, or two values a channel and band."""
        sound = torch.from_numpy(
            np.concatenate(list(resample_blocks([window], self.sample_rate_hz, part.sample_rate_hz)))
        )
        samples = round(self.window_samples / self.sample_rate_hz * part.sample_rate_hz)
        bands = part.analyse(functional.pad(sound, (0, samples - len(sound)))).bands  # resampling may miss a sample
        if isinstance(part, VectorFeatures):
            values: Waveform = bands.mean(dim=1).numpy()
            return values
        over_time = part.stack(bands[None])[0].flatten(0, 1)  # (C F, T)
        values = torch.cat([over_time.mean(dim=1), over_time.std(dim=1, correction=0)]).numpy()
        return values
