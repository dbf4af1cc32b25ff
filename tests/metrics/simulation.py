"""Simulated test splits: a long tail of classes, recordists whose clips are right or wrong together."""

from collections.abc import Iterator

import numpy as np

CLASSES = 30
SUPPORT = np.maximum(np.round(np.geomspace(60, 0.6, CLASSES)), 1).astype(int)  # 406 clips; 10 classes of 1 or 2
TARGET = np.repeat(np.arange(CLASSES), SUPPORT)
TRAIN_COUNTS = np.round(SUPPORT * 0.7 / 0.15).astype(int)
RATE = np.linspace(np.log(4), -np.log(9), CLASSES)[TARGET]  # log odds of a right answer: 0.8 down to 0.1
POPULAR = SUPPORT**0.7 / (SUPPORT**0.7).sum()  # wrong answers are mostly common species


def clusters(rng: np.random.Generator) -> np.ndarray:
    """Deal the clips of each three neighbouring classes to recordists, of about three clips each, some far more."""
    room = TARGET // 3
    held = np.ceil(np.bincount(room) / 3).astype(int)
    return (rng.random(len(TARGET)) ** 1.5 * held[room]).astype(int) + np.concatenate([[0], held.cumsum()])[room]


def splits(number: int, seed: int, runs: int = 1) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield ``(cluster, prediction, ...)`` of splits, with so many runs that differ by chance alone."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        cluster = clusters(rng)
        odds = RATE + rng.standard_normal(cluster.max() + 1)[cluster]
        answers = []
        for _ in range(runs):
            right = rng.random(len(TARGET)) < 1 / (1 + np.exp(-odds))
            answers.append(np.where(right, TARGET, rng.choice(CLASSES, len(TARGET), p=POPULAR)))
        yield cluster, *answers
