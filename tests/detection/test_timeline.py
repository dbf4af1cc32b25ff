"""The picture of a recording."""

import io
import warnings

import numpy as np
import pytest
from matplotlib.image import imread

from birdclf.detection.detections import Detection
from birdclf.detection.timeline import SPECIES, Overview, timeline

RATE_HZ = 8_000


@pytest.fixture
def overview() -> Overview:
    one = Overview(RATE_HZ)
    one.add(0.0, np.random.default_rng(0).standard_normal(3 * RATE_HZ).astype(np.float32))
    return one


def height(picture: bytes) -> int:
    return len(imread(io.BytesIO(picture)))


@pytest.mark.parametrize(
    "name",
    ["cost $5 and $6.wav", "$\\frac{", "<b>&.wav", "鸟鸣 नमस्ते.wav", "line\nend\x1b[31m.wav", "n" * 300, "\udcff", ""],
)
def test_any_name_draws_without_a_word(name, overview):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = timeline(name, 3.0, [Detection(0.0, 2.0, name, 0.7, 1)], overview)
    assert picture.startswith(b"\x89PNG")


def test_more_species_take_more_room_up_to_a_limit(overview):
    found = [Detection(0.0, 1.0 + n / 100, f"species {n}", 0.5, 1) for n in range(SPECIES + 5)]
    none, one, most, more = (height(timeline("a", 3.0, found[:n], overview)) for n in (0, 1, SPECIES, SPECIES + 5))
    assert none == one < most == more


@pytest.mark.parametrize("seconds", [0.0, 0.001, 299.0, 86_400.0])
def test_any_length_draws(seconds):
    assert timeline("a", seconds, [], Overview(RATE_HZ)).startswith(b"\x89PNG")


def test_the_same_is_drawn_byte_for_byte(overview):
    found = [Detection(0.0, 2.0, "a", 0.7, 1)]
    assert timeline("a", 3.0, found, overview) == timeline("a", 3.0, found, overview)
