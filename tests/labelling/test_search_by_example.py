"""Windows that sound like an example, and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from detection.made_up import RATE_HZ, Pitches, tones

from birdclf.data.sources.manifest import manifest_catalog
from birdclf.detection.detections import DetectionSettings
from birdclf.detection.predict import Embedded, predict_to_folder
from birdclf.detection.stream import StreamSettings
from birdclf.errors import UserError
from birdclf.labelling.search import TABLE, search

CRANE_HZ, LARK_HZ, OWL_HZ = 1_250.0, 2_750.0, 500.0


class Other(Pitches):
    """Another model, whose embeddings are wider."""

    def fingerprint(self) -> str:
        return "other"


def write(file: Path, *pitches_hz: float, seconds: float = 1.0) -> str:
    soundfile.write(file, tones(*pitches_hz, seconds=seconds), RATE_HZ)
    return str(file)


def embed(folder: Path, *recordings: str, hop_s: float = 1.0, embeddings: bool = True) -> Embedded:
    how = StreamSettings(hop_s, embeddings=embeddings)
    predict_to_folder(Pitches(), recordings, (), folder, how, DetectionSettings(), ["csv"])
    return Embedded.read(folder)


@pytest.fixture
def pool(tmp_path: Path) -> Embedded:
    """Return two recordings, embedded: an owl, then a crane, then a lark in the one, and owls in the other."""
    (tmp_path / "sound").mkdir()
    write(tmp_path / "sound" / "all.wav", OWL_HZ, CRANE_HZ, LARK_HZ)
    write(tmp_path / "sound" / "owls.wav", OWL_HZ, OWL_HZ)
    return embed(tmp_path / "pool", str(tmp_path / "sound"))


def rows(out: Path) -> list[dict[str, str]]:
    with (out / TABLE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_sounds_like_the_example_comes_first(pool: Embedded, tmp_path: Path):
    query = write(tmp_path / "crane.wav", CRANE_HZ)
    found = search(pool, Pitches(), query, tmp_path / "out", 3)
    assert (found.recordings, found.windows, found.clips) == (2, 5, 3)
    first, *others = rows(tmp_path / "out")
    assert Path(first["path"]).name == "all.wav" and float(first["start_s"]) == 1.0 and first["species"] == ""
    assert float(first["likeness"]) > 0.99 > max(float(one["likeness"]) for one in others)
    assert [one["rank"] for one in (first, *others)] == ["1", "2", "3"]
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "the one most like crane.wav first" in page and "crane.wav, the example" in page and "Likeness 1.00" in page


def test_an_example_of_several_calls_finds_each(pool: Embedded, tmp_path: Path):
    query = write(tmp_path / "two.wav", CRANE_HZ, LARK_HZ)
    search(pool, Pitches(), query, tmp_path / "out", 2)
    assert sorted(float(one["start_s"]) for one in rows(tmp_path / "out")) == [1.0, 2.0]


def test_the_table_is_a_manifest(pool: Embedded, tmp_path: Path):
    query = write(tmp_path / "owl.wav", OWL_HZ)
    search(pool, Pitches(), query, tmp_path / "out", 2)
    text = (tmp_path / "out" / TABLE).read_text("utf-8").replace('""', '"owl"')
    (tmp_path / "labels.csv").write_text(text)
    catalog = manifest_catalog(str(tmp_path / "labels.csv"), allow_outside=True)
    assert list(catalog.table.species) == ["owl", "owl"]


def test_the_examples_own_recording_is_left_out(pool: Embedded, tmp_path: Path):
    found = search(pool, Pitches(), str(tmp_path / "sound" / "owls.wav"), tmp_path / "out", 9)
    assert found.recordings == 1 and {Path(one["path"]).name for one in rows(tmp_path / "out")} == {"all.wav"}


def test_no_two_clips_overlap(tmp_path: Path):
    recording = write(tmp_path / "owls.wav", OWL_HZ, OWL_HZ, OWL_HZ)
    pool = embed(tmp_path / "pool", recording, hop_s=0.25)
    search(pool, Pitches(), write(tmp_path / "owl.wav", OWL_HZ), tmp_path / "out", 9)
    starts = sorted(float(one["start_s"]) for one in rows(tmp_path / "out"))
    assert len(starts) > 1 and min(np.diff(starts)) >= 1.0


def test_an_example_shorter_than_a_window_is_filled_up(pool: Embedded, tmp_path: Path):
    query = write(tmp_path / "short.wav", CRANE_HZ, seconds=0.3)
    found = search(pool, Pitches(), query, tmp_path / "out", 1)
    assert found.example.shortest_s == pytest.approx(0.3)
    assert float(rows(tmp_path / "out")[0]["start_s"]) == 1.0


def refused(pool: Embedded, query: str, out: Path, message: str, classifier: Pitches | None = None) -> None:
    with pytest.raises(UserError, match=message):
        search(pool, classifier or Pitches(), query, out, 5)
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*"))


def test_an_example_that_cannot_be_one_is_refused(pool: Embedded, tmp_path: Path):
    out, owl = tmp_path / "out", write(tmp_path / "owl.wav", OWL_HZ)
    refused(pool, owl, out, "another model than made up", Other())
    refused(pool, write(tmp_path / "silent.wav", 0.0), out, r"silent\.wav is silent")
    (tmp_path / "text.wav").write_text("no sound")
    refused(pool, str(tmp_path / "text.wav"), out, r"text\.wav .*: it cannot be the example")
    refused(pool, str(tmp_path / "none.wav"), out, r"none\.wav does not exist")
    refused(pool, str(tmp_path / "sound"), out, "names 2 recordings. Give the one")


def test_a_folder_that_is_there_is_kept(pool: Embedded, tmp_path: Path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="It may hold labels"):
        search(pool, Pitches(), write(tmp_path / "owl.wav", OWL_HZ), tmp_path / "out", 5)
    assert not list((tmp_path / "out").iterdir())


def test_a_pool_of_the_example_alone_is_refused(tmp_path: Path):
    owl = write(tmp_path / "owl.wav", OWL_HZ)
    refused(embed(tmp_path / "pool", owl), owl, tmp_path / "out", "no other recording than the example")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays | {"embeddings": arrays["embeddings"][:, :2]}, "have 2 values; the model's have 3"),
        (
            lambda arrays: arrays | {"embeddings": arrays["embeddings"] * np.nan},
            "a value is not finite",
        ),
        (lambda arrays: arrays | {"start_s": arrays["start_s"][:-1]}, "its arrays do not fit together"),
        (lambda arrays: {"start_s": arrays["start_s"]}, "cannot be read"),
        (lambda arrays: arrays | {"embeddings": np.array([{}, {}])}, "cannot be read"),
    ],
)
def test_damaged_embeddings_are_refused(change, message: str, pool: Embedded, tmp_path: Path):
    file = tmp_path / "pool" / "embeddings" / "owls.wav.npz"
    with np.load(file) as held:
        arrays = dict(held)
    np.savez(file, **change(arrays))
    refused(pool, write(tmp_path / "owl.wav", OWL_HZ), tmp_path / "out", message)


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:99])])
def test_a_file_that_is_gone_or_cut_is_named(damage, pool: Embedded, tmp_path: Path):
    damage(tmp_path / "pool" / "embeddings" / "owls.wav.npz")
    refused(pool, write(tmp_path / "owl.wav", OWL_HZ), tmp_path / "out", r"owls\.wav\.npz cannot be read")


def test_a_folder_that_holds_no_embeddings_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"holds no results of birdclf predict\. Make it with: .* --embeddings"):
        Embedded.read(tmp_path)
    owl = write(tmp_path / "owl.wav", OWL_HZ)
    with pytest.raises(UserError, match="holds no embedding of a recording"):
        embed(tmp_path / "without", owl, embeddings=False)
    embed(tmp_path / "pool", owl)
    (tmp_path / "pool" / "predict.json").write_text("{}")
    with pytest.raises(UserError, match=r"predict\.json cannot be read"):
        Embedded.read(tmp_path / "pool")
