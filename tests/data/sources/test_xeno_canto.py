"""A folder that fetch filled becomes a catalog."""

import math
from pathlib import Path

import pandas as pd
import pytest
from fake_xeno_canto import write_fetched

from birdclf.audio.clip import AudioError
from birdclf.audio.resampling import read_waveform
from birdclf.data.catalog import Catalog
from birdclf.data.sources.xeno_canto import length_s, xeno_canto_catalog
from birdclf.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fetched(tmp_path_factory.mktemp("fetched") / "turdus")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_fetched(tmp_path / "own", recordings=4)


def rewrite(root: Path, **columns: object) -> None:
    file = root / "recordings.csv"
    pd.read_csv(file, dtype=str, keep_default_na=False).assign(**columns).to_csv(file, index=False)


def test_ids_species_and_groups(root: Path):
    catalog = xeno_canto_catalog(str(root))
    assert isinstance(catalog, Catalog) and len(catalog) == 12
    assert catalog.classes == ("Common Blackbird", "Song Thrush")
    first = catalog.table.iloc[0]
    assert first.recording_id == "XC101" and first.group == "Zoë O'Hara, C"
    assert first.scientific_name == "Turdus merula" and first.genus == "Turdus" and first.date == "2021-05-03"
    assert first.licence == "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    assert first.duration_s == 1 and first.sample_rate_hz == 0


def test_quality_is_five_for_a_to_one_for_e(root: Path):
    quality = xeno_canto_catalog(str(root)).table.quality
    assert quality.dtype == float
    assert list(quality[:5]) == [5, 4, 3, 2, 1] and math.isnan(quality[5])


def test_every_recording_can_be_read(root: Path):
    catalog = xeno_canto_catalog(str(root))
    for clip in catalog.clips():
        assert 0.9 < len(read_waveform(catalog.reader, clip, 16_000)) / 16_000 < 1.2


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:07", 7), ("1:05", 65), ("61:00", 3660), ("1:02:03", 3723), (" 2:00 ", 120)]
)
def test_lengths(text: str, seconds: float):
    assert length_s(text) == seconds


@pytest.mark.parametrize("text", ["", "12", "1:2:3:4", "a:10", "-1:00", "1:00.5"])
def test_what_is_no_length_is_nan(text: str):
    assert math.isnan(length_s(text))


def test_a_file_that_is_gone_is_set_aside_and_not_fatal(own: Path):
    (own / "Turdus merula" / "XC101.mp3").unlink()
    rewrite(own, length="1:02:03")
    catalog = xeno_canto_catalog(str(own))
    assert catalog.table.duration_s[0] == 3723 and list(catalog.table.stamp == "absent") == [True, False, False, False]
    with pytest.raises(AudioError):
        read_waveform(catalog.reader, catalog.clips()[0], 32_000)


def test_a_name_that_looks_like_a_missing_value_stays_a_name(own: Path):
    rewrite(own, species="NA", recordist="null")
    table = xeno_canto_catalog(str(own)).table
    assert set(table.species) == {"NA"} and set(table.group) == {"null"}


def test_mistakes_are_explained(own: Path, tmp_path: Path):
    with pytest.raises(UserError, match="birdclf fetch xeno-canto"):
        xeno_canto_catalog(str(tmp_path))
    for climbs in ("../../etc/passwd", "/etc/passwd", "a/../../b.mp3"):
        rewrite(own, file=climbs)
        with pytest.raises(UserError, match="outside its folder"):
            xeno_canto_catalog(str(own))
    rewrite(own, file="gone.mp3")
    with pytest.raises(UserError, match="Run the birdclf fetch command again"):
        xeno_canto_catalog(str(own))
    (own / "recordings.csv").write_text("id,species\n1,x\n")
    with pytest.raises(UserError, match="lacks the column"):
        xeno_canto_catalog(str(own))
    (own / "recordings.csv").write_bytes(b"id,species\n1,\xff\n")
    with pytest.raises(UserError, match="line 2 is not UTF-8"):
        xeno_canto_catalog(str(own))


def test_other_species_that_are_heard(own: Path, caplog: pytest.LogCaptureFixture):
    rewrite(own, also=["Turdus philomelos;Parus major", "", "turdus philomelos", "Pica pica"])
    with caplog.at_level("INFO"):
        table = xeno_canto_catalog(str(own)).table
    birds = set(table.species)
    assert birds == {"Common Blackbird", "Song Thrush"}
    assert all(
        species in labels and birds.issuperset(labels)
        for species, labels in zip(table.species, table.labels, strict=True)
    )
    assert table.labels.map(len).tolist() == [2, 1, 2, 1]
    assert "2 secondary species are no species of this source and are dropped: Parus major, Pica pica" in caplog.text
