"""Several representations of one window as one vector."""

import pickle
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import soxr
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper

from birdclf.errors import UserError
from birdclf.features.embedders.embedder import Embedder
from birdclf.features.embedders.fusion import Fusion
from birdclf.features.embedders.perch import Perch
from birdclf.features.embedders.vectors import PrecomputedVectors
from birdclf.features.log_mel import LogMel
from birdclf.features.mfcc import MFCCStack
from birdclf.runs.checkpoint import build_features
from birdclf.store.open import open_store

RATE = 16_000
WIDTH = 4


def write_network(file: Path, samples: int) -> Path:
    """Write a network whose output is a product of windows ``(B, samples)`` with a matrix."""
    matrix = np.random.default_rng(0).standard_normal((samples, WIDTH)).astype(np.float32)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", size])
        for name, size in (("sound", samples), ("embedding", WIDTH))
    ]
    node = helper.make_node("MatMul", ["sound", "matrix"], ["embedding"])
    graph = helper.make_graph([node], "network", ends[:1], ends[1:], [numpy_helper.from_array(matrix, "matrix")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("network") / "network.onnx", RATE)


def embedder(file: Path, **settings) -> Embedder:
    return Embedder(str(file), RATE, 1.0, **settings)


def mfcc(**settings) -> MFCCStack:
    return MFCCStack(**{"window_s": 2.0, **settings})


@pytest.fixture
def fusion(file: Path) -> Fusion:
    return Fusion({"first": embedder(file), "second": mfcc()})


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def test_a_window_is_the_longest_and_the_rate_the_highest_of_the_parts(fusion, file):
    assert (fusion.sample_rate_hz, fusion.window_samples, fusion.hop_samples) == (32_000, 64_000, 64_000)
    assert fusion.shape == (WIDTH + 2 * 60,) and fusion.frames == 1
    other = Fusion({"first": embedder(file), "second": mfcc()}, window_s=3.0, hop_s=0.5)
    assert (other.window_samples, other.hop_samples) == (96_000, 16_000)
    assert other.analyse(noise(4 * 32_000)).bands.shape == (WIDTH + 120, 3)


def test_an_embedder_gives_its_mean_and_bands_their_mean_and_deviation(fusion, file):
    sound = noise(64_000)
    (vector,) = fusion.analyse(sound).bands.T
    at_its_rate = torch.from_numpy(soxr.resample(sound.numpy(), 32_000, RATE))
    vectors = embedder(file).analyse_windows(at_its_rate.reshape(2, RATE))[:, :, 0]
    torch.testing.assert_close(vector[:WIDTH], vectors.mean(dim=0))
    channels = mfcc().stack(mfcc().analyse(sound).bands[None])[0]  # (3, 20, frames)
    torch.testing.assert_close(vector[WIDTH : WIDTH + 60], channels.mean(dim=2).flatten())
    torch.testing.assert_close(vector[WIDTH + 60 :], channels.std(dim=2, correction=0).flatten())


def test_windows_give_what_they_give_as_recordings(fusion):
    windows = torch.stack([noise(64_000, seed) for seed in range(3)])
    found = fusion.analyse_windows(windows)
    assert found.shape == (3, WIDTH + 120, 1)
    torch.testing.assert_close(found, torch.stack([fusion.analyse(window).bands for window in windows]))
    whole = fusion.analyse(windows.flatten())
    torch.testing.assert_close(whole.bands, found[:, :, 0].T)
    short = noise(20_000)
    torch.testing.assert_close(fusion.analyse(short).bands, fusion.analyse(short.repeat(4)[:64_000]).bands)


def test_a_rate_that_gives_no_whole_number_of_samples_gives_no_second_window(tmp_path):
    odd = Embedder(str(write_network(tmp_path / "odd.onnx", 11_025)), 11_025, 1.0)
    alone = Fusion({"first": odd, "second": LogMel(sample_rate_hz=22_050, window_s=1.0, hop=441, f_max_hz=11_025.0)})
    sound = noise(22_050)
    resampled = torch.from_numpy(soxr.resample(sound.numpy(), 22_050, 11_025))[:11_025]
    torch.testing.assert_close(alone.analyse(sound).bands[:WIDTH, 0], odd.analyse_windows(resampled[None])[0, :, 0])


def test_the_settings_are_plain_and_make_the_same_again(fusion):
    settings = fusion.settings
    assert yaml.safe_load(yaml.safe_dump(settings)) == settings
    again = build_features({"_target_": "birdclf.features.embedders.fusion.Fusion", **settings})
    assert isinstance(again, Fusion) and again.settings == settings
    assert again.fingerprint() == fusion.fingerprint()
    assert set(fusion.state_dict()) == {"mean", "std"}
    again.load_state_dict(fusion.state_dict())
    for copied in (deepcopy(fusion), pickle.loads(pickle.dumps(fusion))):
        torch.testing.assert_close(copied.analyse(noise(64_000)).bands, fusion.analyse(noise(64_000)).bands)


def test_the_fingerprint_follows_what_is_stored(fusion, file):
    parts = {"first": embedder(file), "second": mfcc()}
    assert Fusion({"a": parts["first"], "b": parts["second"]}).fingerprint() == fusion.fingerprint()
    others = [
        Fusion(dict(reversed(parts.items()))),
        Fusion(parts | {"second": mfcc(n_mfcc=13)}),
        Fusion(parts | {"second": mfcc(channels=["static"])}),
        Fusion(parts | {"second": mfcc(delta_width=5)}),
        Fusion(parts | {"first": embedder(file, hop_s=0.5)}),
        Fusion(parts, hop_s=1.0),
        Fusion(parts, window_s=3.0),
        Fusion(parts, padding="silence"),
    ]
    assert len({fusion.fingerprint(), *(one.fingerprint() for one in others)}) == 9


@pytest.mark.slow
def test_a_store_built_by_processes_holds_what_the_features_give(folder, fusion, tmp_path):
    few = folder.subset(folder.table.recording_id.str.contains("[01]"))
    stores = [open_store(few, fusion, tmp_path / str(workers), workers=workers) for workers in (0, 2)]
    np.testing.assert_array_equal(stores[0].frames, stores[1].frames)
    assert stores[0].frames.dtype == np.float32 and (stores[0].index.frames >= 1).all()
    fusion.fit([torch.from_numpy(np.array(stores[0].frames))[:, :, None]])
    out = fusion(torch.from_numpy(np.array(stores[0].frames))[:, :, None])
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(WIDTH + 120), atol=2e-3, rtol=0)


def test_licences_are_those_of_all_parts(file, tmp_path):
    assert Fusion({"a": embedder(file), "b": mfcc()}).licence == ""
    perch = Perch(str(file), width=WIDTH, content_hash=embedder(file).content_hash)
    other = embedder(file)
    other.licence = "CC BY 4.0"
    assert Fusion({"a": perch, "b": other, "c": perch}).licence == "Apache-2.0, CC BY 4.0"


def test_a_part_whose_file_is_gone_is_refused_for_new_sound_alone(file, tmp_path):
    copied = tmp_path / "copy.onnx"
    copied.write_bytes(file.read_bytes())
    settings = Fusion({"first": embedder(copied), "second": mfcc()}).settings
    copied.unlink()
    again = build_features({"_target_": "birdclf.features.embedders.fusion.Fusion", **settings})
    with pytest.raises(UserError, match=r"copy.onnx does not exist, whose content had the hash"):
        again.check_new_sound()


def test_bad_settings_are_refused(file, tmp_path):
    parts = {"first": embedder(file), "second": mfcc()}
    row = pd.DataFrame({"recording_id": ["a"], "start_s": [0.0], "end_s": [1.0], "vector": [[1.0]]})
    row.to_parquet(tmp_path / "v.parquet")
    for wrong, said in (
        ({"parts": {}}, "features.parts is empty"),
        ({"parts": {"first": None}}, "features.parts is empty"),
        ({"parts": {"first": "mfcc"}}, "features.parts.first is a str"),
        ({"parts": parts | {"third": Fusion(parts)}}, "features.parts.third is a Fusion"),
        ({"parts": {"a": PrecomputedVectors(str(tmp_path / "v.parquet"))}}, "a PrecomputedVectors; .* from sound"),
        ({"window_s": 1.0}, r"features.window_s is 1, but a part has windows of 2 s.*parts.second.window_s=1"),
        ({"window_s": float("nan")}, "features.window_s"),
        ({"hop_s": 3.0}, "features.hop_s is 3.0; .* between 0.02 and 2"),
        ({"hop_s": 0.0}, "features.hop_s"),
        ({"padding": "zeros"}, "features.padding"),
    ):
        with pytest.raises(UserError, match=said):
            Fusion(**({"parts": parts} | wrong))
