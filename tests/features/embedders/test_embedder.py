"""Vectors of a frozen network: which windows, at which level, and of which file."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_embedder import WIDTH, directions, made_onnx, write_onnx

from birdclf.audio.clip import AudioError
from birdclf.data.catalog import Catalog
from birdclf.errors import UserError
from birdclf.features.embedders.embedder import AT_ONCE, Embedder
from birdclf.features.embedders.perch import Perch
from birdclf.store.open import open_store

RATE = 16_000
SAMPLES = 8_000
WINDOW_S = 0.5


def embedder(file: Path | None = None, **settings: Any) -> Embedder:
    return Embedder(str(file or made_onnx(SAMPLES)), RATE, WINDOW_S, **settings)


def noise(samples: int, seed: int = 0, level: float = 0.1) -> torch.Tensor:
    return level * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def expected(windows: list[torch.Tensor]) -> torch.Tensor:
    """Return the vectors ``(E, windows)`` that the made network gives."""
    return 10 * torch.from_numpy(directions(SAMPLES)).T @ torch.stack(windows).T


@pytest.mark.parametrize(
    ("hop_s", "samples", "begins"),
    [
        (None, 8_000, [0]),
        (None, 16_000, [0, 8_000]),
        (None, 16_001, [0, 8_000, 8_001]),
        (0.25, 8_001, [0, 1]),
        (0.25, 16_000, [0, 4_000, 8_000]),
        (0.25, 17_000, [0, 4_000, 8_000, 9_000]),
        (0.375, 21_000, [0, 6_000, 12_000, 13_000]),
    ],
)
def test_a_window_begins_every_hop_and_the_last_ends_with_the_recording(hop_s, samples, begins):
    sound = noise(samples)
    found = embedder(hop_s=hop_s).analyse(sound)
    windows = [sound[begin : begin + SAMPLES] for begin in begins]
    assert found.bands.shape == (WIDTH, len(begins)) and found.level_db.shape == (len(begins),)
    torch.testing.assert_close(found.bands, expected(windows), rtol=1e-3, atol=1e-4)


@given(samples=st.integers(1, 5 * SAMPLES), hop=st.integers(500, SAMPLES))
def test_every_sample_is_in_a_window_and_none_is_more_than_needed(samples, hop):
    features = embedder(hop_s=hop / RATE)
    count = features.analyse(noise(samples)).bands.shape[1]
    assert count == 1 + max(0, -(-(samples - SAMPLES) // hop))


def test_more_windows_than_are_embedded_at_once():
    sound = noise(SAMPLES * (2 * AT_ONCE + 3))
    parts = list(embedder().analyse_blocks(sound.split(7_777)))
    assert [part.bands.shape[1] for part in parts] == [AT_ONCE, AT_ONCE, 3]
    found = torch.cat([part.bands for part in parts], dim=1)
    torch.testing.assert_close(found, expected(list(sound.split(SAMPLES))), rtol=1e-3, atol=1e-4)


def test_the_level_is_that_between_1_and_10_khz():
    time = torch.arange(SAMPLES) / RATE
    low, high = (0.5 * torch.sin(2 * torch.pi * hz * time) for hz in (200.0, 3_000.0))
    level = embedder().analyse(torch.cat([high, low, 0.1 * high, torch.zeros(SAMPLES)])).level_db
    assert level[0] > level[1] + 40
    assert float(level[0] - level[2]) == pytest.approx(20.0, abs=0.01)
    assert level[3] == -100.0


@given(scale=st.sampled_from([0.5, 2.0, 32_768.0]), seed=st.integers(0, 100))
def test_scale_multiplies_the_samples(scale, seed):
    sound = noise(2 * SAMPLES, seed)
    torch.testing.assert_close(
        embedder(scale=scale).analyse(sound).bands,
        scale * embedder().analyse(sound).bands,
        rtol=1e-3,
        atol=1e-4 * scale,
    )


@given(level=st.floats(1e-6, 100), seed=st.integers(0, 100))
def test_a_peak_makes_each_window_as_loud(level, seed):
    features, sound = embedder(peak=0.25), noise(2 * SAMPLES, seed)
    windows = [0.25 * window / window.abs().max() for window in sound.split(SAMPLES)]
    louder = torch.cat([sound[:SAMPLES], level * sound[SAMPLES:]])
    torch.testing.assert_close(features.analyse(louder).bands, expected(windows), rtol=1e-3, atol=1e-4)
    assert not features.analyse(torch.zeros(SAMPLES)).bands.any()


def test_perch_is_an_embedder_of_5_s_scaled_to_a_peak(tmp_path: Path):
    file = write_onnx(tmp_path / "perch.onnx", 160_000, width=3, names=("embedding", "label"))
    perch = Perch(str(file))
    assert perch.sample_rate_hz == 32_000 and perch.window_samples == 160_000 and perch.shape == (3,)
    sound = noise(160_000)
    torch.testing.assert_close(perch.analyse(sound).bands, perch.analyse(7 * sound).bands, rtol=1e-4, atol=1e-5)
    plain = Embedder(str(file), 32_000, 5.0, output="embedding", peak=0.25)
    assert torch.equal(perch.analyse(sound).bands, plain.analyse(sound).bands)
    assert perch.fingerprint() == Perch(str(file), width=3).fingerprint() != Perch(str(file), hop_s=2.5).fingerprint()


def test_every_setting_that_changes_a_vector_changes_the_fingerprint(tmp_path: Path):
    usual = embedder()
    copy = tmp_path / "elsewhere.onnx"
    copy.write_bytes(usual.file.read_bytes())
    assert embedder(copy).fingerprint() == embedder(hop_s=WINDOW_S).fingerprint() == usual.fingerprint()
    settings = ({"hop_s": 0.25}, {"scale": 2.0}, {"peak": 0.25}, {"padding": "repeat"}, {"output": "embedding"})
    others = [embedder(**one).fingerprint() for one in settings]
    others.append(embedder(write_onnx(tmp_path / "other.onnx", SAMPLES, scale=20.0)).fingerprint())
    assert len({usual.fingerprint(), *others}) == 7


def test_a_file_whose_content_has_changed_is_refused(tmp_path: Path):
    file = write_onnx(tmp_path / "network.onnx", SAMPLES)
    settings = embedder(file).settings
    assert settings["width"] == WIDTH
    Embedder(**settings)
    write_onnx(file, SAMPLES, scale=20.0)
    with pytest.raises(UserError, match=rf"content has the hash \w+, not {settings['content_hash']}\."):
        Embedder(**settings)


def test_without_its_file_it_is_built_but_hears_nothing(tmp_path: Path):
    file = write_onnx(tmp_path / "network.onnx", SAMPLES)
    before = embedder(file)
    file.unlink()
    later = Embedder(**before.settings)
    assert later.fingerprint() == before.fingerprint() and later.shape == (WIDTH,)
    assert later(torch.ones(2, WIDTH, 1)).shape == (2, WIDTH)  # stored vectors need no file
    for hears in (lambda: later.analyse(noise(SAMPLES)), lambda: later.analyse_windows(noise(SAMPLES)[None])):
        with pytest.raises(
            UserError, match=rf"network\.onnx does not exist.*{before.content_hash}.*features\.file=FILE"
        ):
            hears()
    with pytest.raises(UserError, match=r"features\.file=.*network\.onnx does not exist"):
        embedder(file)


def test_a_width_that_is_not_the_files_is_refused():
    with pytest.raises(UserError, match=rf"gives vectors of {WIDTH} values; 5 are needed"):
        embedder(width=5).analyse(noise(SAMPLES))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hop_s": 0.6}, r"features\.hop_s is 0\.6"),
        ({"hop_s": 0.0}, r"features\.hop_s is 0"),
        ({"scale": 0.0}, r"features\.scale is 0"),
        ({"peak": -1.0}, r"features\.peak is -1"),
        ({"padding": "zeros"}, r"features\.padding is 'zeros'"),
        ({"output": "logits"}, r"features\.output is 'logits'.*has: embedding"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        embedder(**settings)


def test_a_window_of_another_length_than_the_networks_is_refused():
    with pytest.raises(UserError, match=r"a window has 16000 samples.*features\.window_s"):
        Embedder(str(made_onnx(SAMPLES)), RATE, 1.0)


def test_sound_and_vectors_that_are_not_finite_are_refused():
    broken = noise(2 * SAMPLES)
    broken[9_000] = torch.nan
    with pytest.raises(AudioError, match="samples that are not finite"):
        embedder().analyse(broken)
    with pytest.raises(AudioError, match="an embedding that is not finite"):
        embedder().analyse(torch.full((SAMPLES,), 1e38))
    with pytest.raises(AudioError, match="is empty"):
        embedder().analyse(torch.zeros(0))


def hear_elsewhere(content: bytes) -> np.ndarray:
    return pickle.loads(content).analyse(noise(2 * SAMPLES)).bands.numpy()


@pytest.mark.slow
def test_it_can_be_sent_to_another_process():
    features = embedder()
    here = features.analyse(noise(2 * SAMPLES)).bands.numpy()  # the file is open
    assert features.__getstate__()["_network"] is None
    np.testing.assert_array_equal(hear_elsewhere(pickle.dumps(features)), here)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = pool.submit(hear_elsewhere, pickle.dumps(features)).result(timeout=120)
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6)


def test_a_store_holds_the_vectors_in_float32(folder: Catalog, tmp_path: Path):
    few = folder.subset(folder.table.recording_id.isin(folder.table.recording_id[:3]))
    features = embedder()
    held = open_store(few, features, tmp_path, workers=0)
    assert held.stored_type == "float32" and held.frames.dtype == np.float32
    assert held.frames.shape == (int(held.index.frames.sum()), WIDTH) and np.isfinite(held.frames).all()
    assert sorted(file.name for file in held.folder.iterdir()) == [
        "frames.f32", "index.parquet", "level.f16", "meta.json",
    ]  # fmt: skip
    again = open_store(few, features, tmp_path, workers=0)
    np.testing.assert_array_equal(again.frames, held.frames)
    seconds = held.index.duration_s.to_numpy()
    np.testing.assert_array_equal(held.index.frames, np.maximum(1, np.ceil(np.round(seconds * RATE) / SAMPLES)))


def test_the_file_is_found_from_another_folder(tmp_path, monkeypatch):
    write_onnx(tmp_path / "network.onnx", SAMPLES)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = embedder(Path("network.onnx")).settings
    monkeypatch.chdir(tmp_path / "other")
    sound = torch.randn(1, SAMPLES)
    assert Embedder(**settings).analyse_windows(sound).shape == (1, WIDTH, 1)


@pytest.mark.parametrize("hop_s", [0, 1e-9, 1.01 * WINDOW_S])
def test_a_hop_is_a_hundredth_of_a_window_or_more(hop_s):
    with pytest.raises(UserError, match=r"features.hop_s is .*; it must be a number between"):
        embedder(hop_s=hop_s)
    assert embedder(hop_s=WINDOW_S / 100).hop_samples == SAMPLES // 100
