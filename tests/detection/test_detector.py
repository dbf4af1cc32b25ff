"""A trained model for programs: its five ways to say the same agree."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from made_up import CLASSES, RATE_HZ, Pitches, tones, write_run

from birdclf.detection.detector import Detector, load
from birdclf.errors import UserError


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """Two recordings of tones, and one of noise that is no sound file."""
    root = tmp_path / "field"
    root.mkdir()
    soundfile.write(root / "a.wav", tones(500, 500, 1_250, 0, 2_750), RATE_HZ)
    soundfile.write(root / "b.wav", tones(1_250, seconds=0.5), RATE_HZ)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Detector:
    """A tiny network, as it is loaded from its checkpoint."""
    return load(write_run(tmp_path_factory.mktemp("trained") / "run"), device="cpu")


def test_what_sings_is_named_where_it_sings(field: Path):
    table = Detector(Pitches()).predict(field)
    assert list(table.columns) == ["path", "start_s", "end_s", "species", "confidence", "windows"]
    rows = [(Path(one.path).name, *one[2:5]) for one in table.itertuples()]
    assert rows == [
        ("a.wav", 0.0, 2.0, "barn owl"),
        ("a.wav", 2.0, 4.0, "crane"),
        ("a.wav", 3.0, 4.0, "barn owl"),  # silence, of which the classifier says a bit of each
        ("a.wav", 4.0, 5.0, "wood lark"),
        ("b.wav", 0.0, 0.5, "crane"),
    ]


def test_options_act(field: Path):
    model = Detector(Pitches())
    assert len(model.predict(field, merge=False)) == 7
    assert set(model.predict(field, min_confidence=0.9).confidence >= 0.9) == {True}
    assert set(model.predict(field, species=["CRANE", "wood lark"], min_confidence=0).species) == {"crane", "wood lark"}
    assert model.predict(field, hop=0.5, merge=False).start_s.max() == 4.0
    assert model.predict(field, top_k=1).groupby(["path", "start_s"]).size().max() == 1
    assert (
        model.predict(field, smooth=100.0, merge=False, min_confidence=0.0)
        .groupby("species")
        .confidence.nunique()
        .max()
        <= 2
    )


def test_all_ways_agree(field: Path, trained: Detector):
    assert (trained.classes, trained.sample_rate_hz, trained.window_s) == (CLASSES, 32_000, 1.0)
    p = trained.probabilities(field)
    where, embeddings = trained.embeddings(field)
    table = trained.predict(field, min_confidence=0.0, top_k=3, merge=False)
    assert len(p) == len(where) == len(embeddings) == 6 and len(table) == 18
    assert p[["path", "start_s", "end_s"]].equals(where)
    np.testing.assert_allclose(p[list(CLASSES)].sum(axis=1), 1, atol=1e-5)
    for row in table.itertuples():
        (same,) = p[(p.path == row.path) & (p.start_s == row.start_s)].to_dict("records")
        assert row.confidence == pytest.approx(same[row.species], abs=1e-6) and row.end_s == same["end_s"]
    for name in ("a.wav", "b.wav"):
        sound, rate_hz = soundfile.read(field / name, dtype="float32")
        own = p[p.path == str(field / name)][list(CLASSES)]
        np.testing.assert_allclose(trained.classify(sound, rate_hz), own, atol=1e-5)


def test_embeddings_give_the_probabilities_by_the_last_layer(field: Path, trained: Detector):
    p = trained.probabilities(field)[list(CLASSES)].to_numpy()
    _, embeddings = trained.embeddings(field)
    module = trained.classifier.module
    weights = module.network.state_dict()
    (name,) = (key for key, value in weights.items() if value.ndim == 2 and value.shape == (3, embeddings.shape[1]))
    logits = torch.from_numpy(embeddings) @ weights[name].T + weights[name.replace("weight", "bias")]
    again = torch.softmax(logits * module.scale + module.offset, dim=1)
    np.testing.assert_allclose(again, p, atol=1e-5)


def test_probabilities_do_not_depend_on_the_batch(field: Path):
    classifier = Pitches()
    p = Detector(classifier).probabilities([field / "a.wav"] * 2 + [field], hop=0.25)
    assert sum(classifier.batches) == len(p) and max(classifier.batches) <= 16
    assert p.groupby("path").size().tolist() == [17, 1]


@pytest.mark.parametrize("given", ["text", "path", "list", "pattern"])
def test_recordings_are_given_as_one_likes(field: Path, given: str):
    audio = {
        "text": str(field),
        "path": field,
        "list": [field / "a.wav", str(field / "b.wav")],
        "pattern": f"{field}/?.wav",
    }
    assert len(Detector(Pitches()).probabilities(audio[given])) == 6


def test_a_bad_file_is_a_warning_and_none_good_an_error(field: Path):
    (field / "c.wav").write_bytes(b"no sound")
    with pytest.warns(UserWarning, match=r"c\.wav cannot be decoded"):
        assert len(Detector(Pitches()).probabilities(field)) == 6
    with pytest.raises(UserError, match=r"Nothing could be decoded: .*c\.wav cannot be decoded"):
        Detector(Pitches()).predict(field / "c.wav")


@pytest.mark.parametrize(
    ("waveform", "rate_hz"),
    [([], 8_000), ([[0.0, 0.1]], 8_000), ([np.nan], 8_000), ([np.inf], 8_000), ([0.0], 0), ([0.0], -1)],
)
def test_a_waveform_that_is_none_is_refused(waveform, rate_hz):
    with pytest.raises(UserError, match="one row of finite samples"):
        Detector(Pitches()).classify(np.asarray(waveform), rate_hz)


def test_a_waveform_of_another_rate_and_kind_is_decoded():
    sound = tones(1_250, 500, rate_hz=22_050).astype(np.float64)
    np.testing.assert_allclose(Detector(Pitches()).classify(sound, 22_050), [[0, 1, 0], [1, 0, 0]], atol=0.01)


def test_what_cannot_be_loaded_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"best\.ckpt does not exist"):
        load(tmp_path)
    (tmp_path / "file.ckpt").touch()
    with pytest.raises(UserError, match="neither a run folder nor an .onnx file"):
        load(tmp_path / "file.ckpt")
    with pytest.raises(UserError, match=r"gone\.onnx does not exist"):
        load(tmp_path / "gone.onnx")
    with pytest.raises(UserError, match="--device nonsense is not there"):
        load(write_run(tmp_path / "run"), device="nonsense")


@pytest.mark.parametrize(("hop", "words"), [(0.0, "--hop 0"), (-1.0, "--hop -1"), (float("nan"), "--hop nan")])
def test_a_hop_that_is_no_time_is_refused(field: Path, hop: float, words: str):
    with pytest.raises(UserError, match=words):
        Detector(Pitches()).predict(field, hop=hop)
