"""How often models call a bird where there is none: speech, wind, rain, hum and hiss that are made here, and files.

    python benchmarks/no_bird.py RUN [RUN ...] [--sounds DIR] [--each 20]

Prints, for each run and each kind of sound, the share of windows with a detection at a probability of 0.25, of 0.5, and
at the thresholds of the run's thresholds.json, where it has one.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter

import birdclf
from birdclf.detection.detector import Detector

RATE_HZ = 32_000
Sound = NDArray[np.float64]


def coloured(n: int, rng: np.random.Generator, slope: float) -> Sound:
    """Return noise of ``(n,)`` samples whose power falls with the frequency to the power of a slope."""
    hz = np.fft.rfftfreq(n, 1 / RATE_HZ)
    hz[0] = hz[1]
    sound = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * hz ** (-slope / 2), n)
    return np.asarray(sound / np.abs(sound).max())


def hiss(n: int, rng: np.random.Generator) -> Sound:
    return coloured(n, rng, rng.uniform(0, 0.5))


def wind(n: int, rng: np.random.Generator) -> Sound:
    gusts = np.abs(coloured(n, rng, 2.5))
    return np.asarray(coloured(n, rng, rng.uniform(1.5, 2.5)) * (0.2 + gusts / gusts.max()))


def rain(n: int, rng: np.random.Generator) -> Sound:
    drops = np.zeros(n)
    at = rng.integers(0, n, rng.poisson(n / RATE_HZ * rng.uniform(50, 400)))
    drops[at] = rng.exponential(1, len(at)) * rng.choice([-1, 1], len(at))
    band = [rng.uniform(500, 2_000) / (RATE_HZ / 2), rng.uniform(6_000, 12_000) / (RATE_HZ / 2)]
    heard: Sound = np.asarray(lfilter(*butter(2, band, "band"), drops))
    return np.asarray(heard / np.abs(heard).max() + 0.05 * coloured(n, rng, 1))


def hum(n: int, rng: np.random.Generator) -> Sound:
    seconds, base_hz = np.arange(n) / RATE_HZ, rng.uniform(45, 130)
    tones = [rng.uniform(0.2, 1) / k * np.sin(2 * np.pi * base_hz * k * seconds) for k in range(1, 25)]
    heard = np.sum(tones, axis=0)
    return np.asarray(heard / np.abs(heard).max() + 0.1 * coloured(n, rng, 1))


def speech(n: int, rng: np.random.Generator) -> Sound:
    """Return syllables: a glottal source through three formants, with the pauses of words and sentences."""
    heard, at = np.zeros(n), 0
    while at < n:
        length = min(int(RATE_HZ * rng.uniform(0.08, 0.35)), n - at)
        seconds = np.arange(length) / RATE_HZ
        pitch_hz = rng.uniform(90, 230) * (1 + 0.1 * np.sin(2 * np.pi * 3 * seconds))
        phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
        source = np.sum([np.sin(k * phase) / k for k in range(1, 30)], axis=0) + 0.1 * rng.standard_normal(length)
        syllable, r = np.zeros(length), np.exp(-np.pi * 90 / RATE_HZ)
        for low, high in ((250, 850), (850, 2_300), (2_300, 3_200)):
            angle = 2 * np.pi * rng.uniform(low, high) / RATE_HZ
            syllable += lfilter([1 - r], [1, -2 * r * np.cos(angle), r * r], source)
        heard[at : at + length] = syllable * np.hanning(length)
        at += length + int(RATE_HZ * rng.choice([0.02, 0.05, 0.3], p=[0.6, 0.25, 0.15]))
    return np.asarray(heard / np.abs(heard).max() + 0.01 * coloured(n, rng, 1))


KINDS: dict[str, Callable[[int, np.random.Generator], Sound]] = {
    one.__name__: one for one in (speech, wind, rain, hum, hiss)
}


def called(model: Detector, probabilities: NDArray[np.floating]) -> tuple[float, float, float]:
    """Return the share of windows ``(n, K)`` with a detection at 0.25, at 0.5 and at the run's thresholds, else NaN."""
    birds = np.array([name != "none" for name in model.classes])
    top = probabilities[:, birds].max(axis=1)
    own = float("nan")
    if model.thresholds:
        known = model.thresholds.species
        least = np.array([known[name].threshold if name in known else np.nan for name in model.classes])
        own = float((probabilities >= np.nan_to_num(least, nan=np.inf)).any(axis=1).mean())
    return float((top >= 0.25).mean()), float((top >= 0.5).mean()), own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--sounds", type=Path, metavar="DIR", help="sound files to try as well")
    parser.add_argument("--each", type=int, default=20, help="sounds of each kind, of 10 s (default: 20)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(22)
    made = {}
    for kind, make in KINDS.items():
        sounds = [make(10 * RATE_HZ, rng) for _ in range(arguments.each)]
        made[kind] = [one / np.abs(one).max() * 10 ** (rng.uniform(-20, -1) / 20) for one in sounds]
    print(f"{'run':40} {'sound':10} {'windows':>7} {'>= 0.25':>8} {'>= 0.5':>8} {'own':>8}")
    for run in arguments.runs:
        model = birdclf.load(run)
        found = {
            kind: np.concatenate([model.classify(one, RATE_HZ) for one in sounds]) for kind, sounds in made.items()
        }
        if arguments.sounds:
            table = model.probabilities(str(arguments.sounds))
            found[arguments.sounds.name[:10]] = table[list(model.classes)].to_numpy()
        for kind, probabilities in found.items():
            shares = " ".join(f"{share:8.1%}" for share in called(model, probabilities))
            print(f"{str(run)[-40:]:40} {kind:10} {len(probabilities):7} {shares}")


if __name__ == "__main__":
    main()
