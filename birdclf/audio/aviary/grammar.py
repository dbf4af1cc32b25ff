"""A species' song grammar, drawn from its name: syllables, phrases with repeats, songs, and calls."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from birdclf.audio.aviary.naming import family_of
from birdclf.audio.aviary.syllables import KINDS, Syllable
from birdclf.random import stream

FAMILY_SYLLABLES = 8
"""Syllables in the pool that a family shares."""


@dataclass(frozen=True, slots=True)
class Note:
    """One syllable of a song: its number in the grammar, its level (0 to 1) and the pause after it in seconds."""

    syllable: int
    level: float
    pause_s: float


Song = tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Grammar:
    """Syllables, songs and calls of a species."""

    syllables: tuple[Syllable, ...]  # the first `num_shared` come from the family's pool
    num_shared: int  # number of syllables shared with the family
    songs: tuple[Song, ...]
    calls: tuple[Song, ...]  # short utterances outside song
    rest_s: float  # typical silence between two songs, in seconds


@dataclass(frozen=True, slots=True)
class Family:
    """Features shared by a family: a pitch range around ``register_hz``, weights of the kinds, a pool of syllables."""

    register_hz: float
    kind_weights: tuple[float, ...]
    pool: tuple[Syllable, ...]


def _draw(rng: np.random.Generator, register_hz: float, weights: tuple[float, ...]) -> Syllable:
    return KINDS[rng.choice(len(KINDS), p=weights)](rng, register_hz)


@lru_cache(maxsize=512)
def family_named(name: str) -> Family:
    """Return the family of this name, the same on every call."""
    rng = stream("aviary", "family", name)
    register_hz = float(np.exp(rng.uniform(np.log(1800), np.log(5500))))
    weights = tuple(float(w) for w in rng.dirichlet(np.full(len(KINDS), 1.2)))
    return Family(register_hz, weights, tuple(_draw(rng, register_hz, weights) for _ in range(FAMILY_SYLLABLES)))


def _phrase(rng: np.random.Generator, syllables: tuple[Syllable, ...], tempo: float) -> list[Note]:
    motif = rng.integers(0, len(syllables), size=rng.choice([1, 1, 2, 3]))
    length = sum(syllables[i].duration_s for i in motif)
    pause_s = rng.uniform(0.02, 0.12) / tempo
    repeats = max(1, min(int(rng.integers(1, 9)), int(1.8 / (length + pause_s))))
    swell = np.linspace(rng.uniform(0.5, 1), rng.uniform(0.5, 1), repeats)
    return [Note(int(i), float(level), pause_s) for level in swell for i in motif]


def _song(rng: np.random.Generator, syllables: tuple[Syllable, ...], tempo: float) -> Song:
    notes: list[Note] = []
    for _ in range(int(rng.integers(1, 4))):
        notes += _phrase(rng, syllables, tempo)
    return tuple(notes)


@lru_cache(maxsize=1024)
def grammar_of(slug: str) -> Grammar:
    """Return the grammar of a species such as ``house-sparrow``, whose last word names its family."""
    rng = stream("aviary", "species", slug)
    family = family_named(family_of(slug))
    num_shared = int(rng.integers(2, 5))
    chosen = rng.choice(FAMILY_SYLLABLES, size=num_shared, replace=False)
    # Each species sings a shared syllable a little higher or lower, quicker or slower.
    shared = [family.pool[i].shifted(2 ** rng.normal(0, 0.08), np.exp(rng.normal(0, 0.1))) for i in chosen]
    register_hz = family.register_hz * 2 ** rng.normal(0, 0.35)
    own = [_draw(rng, register_hz, family.kind_weights) for _ in range(int(rng.integers(1, 4)))]
    syllables = tuple(shared + own)
    tempo = float(np.exp(rng.normal(0, 0.35)))
    songs = tuple(_song(rng, syllables, tempo) for _ in range(int(rng.integers(3, 7))))
    calls = tuple((Note(int(rng.integers(len(syllables))), 1.0, 0.1),) * int(rng.integers(1, 3)) for _ in range(2))
    return Grammar(syllables, num_shared, songs, calls, float(rng.uniform(0.5, 2.0)))
