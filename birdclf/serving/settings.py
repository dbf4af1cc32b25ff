"""Limits of uploads, and settings by which they are classified."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from birdclf.detection.detections import DetectionSettings
from birdclf.errors import UserError
from birdclf.targets import Task


class RefusedError(Exception):
    """A request that is refused, with a sentence for the page and a status of HTTP: 422 unusable, 413 too large."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.message, self.status = message, status


MEGABYTE: Final = 1_000_000
LEAST_HOP_S: Final = 0.1
"""An hour is then 36,000 windows."""
MOST_HOP_S: Final = 60.0
MOST_SPECIES: Final = 20


@dataclass(frozen=True)
class Limits:
    """What an upload may be.

    Raises:
        UserError: If one is not above 0.
    """

    megabytes: float = 200.0
    minutes: float = 60.0

    def __post_init__(self) -> None:
        for option, value in (("--max-upload-mb", self.megabytes), ("--max-minutes", self.minutes)):
            if not 0 < value < math.inf:
                raise UserError(f"{option} {value:g} lets nothing through; it must be a number above 0.")

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return round(self.megabytes * MEGABYTE)

    @property
    def too_large(self) -> RefusedError:
        """The refusal of a larger upload."""
        return RefusedError(
            f"The file is larger than {self.megabytes:g} MB. Cut it, or start the server with a "
            f"larger --max-upload-mb.",
            413,
        )

    def too_long(self, message: str) -> RefusedError:
        """Return the refusal of a longer recording; ``message`` is such as ``is 75.0 minutes long``."""
        return RefusedError(
            f"The recording {message}; at most {self.minutes:g} minutes are taken. Cut it, start the server with a "
            f"larger --max-minutes, or use birdclf predict."
        )


@dataclass(frozen=True)
class RequestSettings:
    """Settings by which a recording is classified."""

    min_confidence: float
    hop_s: float
    top_k: int

    @classmethod
    def read(cls, given: Mapping[str, str], window_s: float, task: Task = "single_label") -> "RequestSettings":
        """Return what a request asks for; what it does not say is as in ``birdclf predict``.

        Of sets of species it is all species above the confidence.

        Raises:
            RefusedError: If one is no number, or out of range.
        """
        default = DetectionSettings()
        usual = default.top_k if task == "single_label" else MOST_SPECIES
        confidence = _number(given, "min_confidence", "The least confidence", default.min_confidence, 0, 1)
        hop_s = _number(given, "hop", "The hop", window_s, min(LEAST_HOP_S, window_s), max(MOST_HOP_S, window_s))
        top_k = _number(given, "top_k", "The number of species in a window", usual, 1, MOST_SPECIES)
        if top_k != int(top_k):
            raise RefusedError(f"The number of species in a window is {top_k:g}; it must be a whole number.")
        return cls(confidence, hop_s, int(top_k))

    @property
    def detection_settings(self) -> DetectionSettings:
        """Settings by which probabilities become detections."""
        return DetectionSettings(self.min_confidence, self.top_k)


def _number(given: Mapping[str, str], key: str, what: str, default: float, least: float, most: float) -> float:
    text = given.get(key, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise RefusedError(f"{what} must be a number from {least:g} to {most:g}.")
    return value
