"""Which windows of recordings are suggested, and the table of them."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from detection.made_up import CLASSES, RATE_HZ, Pitches, tones

from birdclf.data.sources.manifest import manifest_catalog
from birdclf.detection.stream import StreamSettings
from birdclf.errors import UserError
from birdclf.labelling.clips import is_silent
from birdclf.labelling.suggest import SuggestSettings, suggest

COLUMNS = (
    *("path", "start_s", "end_s", "species", "predicted", "confidence", "second_guess", "uncertainty", "rank"),
    "group",
)


def mixed(*pairs, seconds=1.0):
    """Return seconds in which two species sing, the first with so much of the sound."""
    parts = []
    for low, high, share in pairs:
        parts.append(np.sqrt(share) * tones(low, seconds=seconds) + np.sqrt(1 - share) * tones(high, seconds=seconds))
    return np.concatenate(parts).astype(np.float32)


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """Three recordings: one of clear songs, one where two species sing at once, one with silence."""
    root = tmp_path / "field"
    root.mkdir()
    soundfile.write(root / "clear.wav", tones(500, 1_250, 2_750, 500, 1_250), RATE_HZ)
    doubt = [(500, 1_250, 0.5), (500, 1_250, 0.55), (1_250, 2_750, 0.6), (500, 1_250, 0.5), (500, 2_750, 0.7)]
    soundfile.write(root / "doubt.wav", mixed(*doubt), RATE_HZ)
    soundfile.write(root / "mute.wav", np.concatenate([np.zeros(3 * RATE_HZ), mixed((1_250, 2_750, 0.6))]), RATE_HZ)
    return root


def suggested(field: Path, out: str = "out", hop_s: float = 1.0, **settings):
    chosen = suggest(
        Pitches(), [str(field)], [], field.parent / out, StreamSettings(hop_s, batch=4), SuggestSettings(**settings)
    )
    return [(Path(one.recording.file).stem, one.start_s) for one in chosen.suggestions]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "suggestions.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_in_doubt_is_chosen_and_silence_is_not(field: Path):
    found = suggested(field, n=6, pool=1)
    assert set(found) == {*(("doubt", float(n)) for n in range(5)), ("mute", 3.0)}


def test_different_ones_are_chosen_of_a_larger_pool(field: Path):
    alone, select_diverse = suggested(field, "alone", n=3, pool=1), suggested(field, "diverse", n=3, pool=2)
    kinds = {0.0: "low", 1.0: "low", 2.0: "high", 3.0: "low", 4.0: "apart"}
    assert {kinds[start_s] for name, start_s in alone} == {"low"}
    assert {"high" if name == "mute" else kinds[start_s] for name, start_s in select_diverse} == {
        "low",
        "high",
        "apart",
    }


def test_no_two_overlap_and_all_are_given_where_there_are_no_more(field: Path):
    found = suggested(field, n=100, hop_s=0.25)
    assert len(found) == len(set(found)) >= 8
    for name, start_s in found:
        assert not [s for other, s in found if other == name and 0 < abs(s - start_s) < 1]
    assert ("mute", 0.0) not in found and ("mute", 1.0) not in found


def test_the_table_says_what_is_there(field: Path):
    suggested(field, n=4)
    rows = rows_of(field.parent / "out")
    assert tuple(rows[0]) == COLUMNS and [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    uncertain = [float(row["uncertainty"]) for row in rows]
    assert uncertain == sorted(uncertain, reverse=True) and 0 < uncertain[0] <= 1
    for row in rows:
        assert row["species"] == "" and row["predicted"] in CLASSES and row["second_guess"] in CLASSES
        assert row["predicted"] != row["second_guess"] and 1 / 3 <= float(row["confidence"]) <= 1
        assert row["path"] == row["group"] and Path(row["path"]).is_absolute()
        assert float(row["end_s"]) - float(row["start_s"]) == 1.0


def test_once_filled_in_it_is_a_manifest(field: Path):
    suggested(field, n=4)
    table = field.parent / "out" / "suggestions.csv"
    with pytest.raises(UserError, match="row 1 has no species. Fill it in or drop the row"):
        manifest_catalog(str(table), allow_outside=True)
    rows = rows_of(table.parent)
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row | {"species": f"species {n % 2}"} for n, row in enumerate(rows))
    catalog = manifest_catalog(str(table), allow_outside=True)
    assert len(catalog.table) == 4 and set(catalog.table.species) == {"species 0", "species 1"}
    with catalog.reader.open(catalog.clips()[0]) as sound:
        assert sum(map(len, sound.blocks)) == RATE_HZ


def test_the_same_seed_writes_the_same_whatever_the_batch(field: Path):
    for name, batch in (("one", 1), ("again", 1), ("many", 16)):
        suggest(
            Pitches(), [str(field)], [], field.parent / name, StreamSettings(0.5, batch=batch), SuggestSettings(n=3)
        )
    for file in ("suggestions.csv", "index.html"):
        one, again, many = ((field.parent / name / file).read_bytes() for name in ("one", "again", "many"))
        assert one == again == many


def test_species_that_occur_are_all_that_the_model_is_asked_about(field: Path):
    suggested(field, n=3, species=("crane", "wood lark"))
    rows = rows_of(field.parent / "out")
    assert {row["predicted"] for row in rows} | {row["second_guess"] for row in rows} <= {"crane", "wood lark"}


@pytest.mark.parametrize("measure", ["margin", "least_confidence"])
def test_other_measures_find_the_doubt_too(field: Path, measure: str):
    assert ("clear", 0.0) not in suggested(field, n=6, pool=1, uncertainty=measure)


def test_a_bad_file_is_reported_and_the_rest_done(field: Path, capsys):
    (field / "bad.wav").write_bytes(b"no sound")
    assert len(suggested(field, n=3)) == 3
    assert "bad.wav cannot be decoded" in capsys.readouterr().err


def test_nothing_to_hear_is_refused_and_leaves_nothing(field: Path):
    silence = field.parent / "silence"
    silence.mkdir()
    soundfile.write(silence / "a.wav", np.full(3 * RATE_HZ, 0.25), RATE_HZ)
    (silence / "b.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match=r"nothing but silence in 2 recordings: .*b\.wav cannot be decoded"):
        suggested(silence)
    assert sorted(path.name for path in field.parent.iterdir()) == ["field", "silence"]


def test_a_folder_that_is_there_is_refused(field: Path):
    (field.parent / "out").mkdir()
    with pytest.raises(UserError, match="exists already"):
        suggested(field)
    (field.parent / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match="exists already"):
        suggested(field, "link")


def test_a_name_that_no_table_can_hold_is_reported(field: Path, capsys):
    odd = field.parent / "caf\udce9.wav"
    try:
        odd.write_bytes((field / "doubt.wav").read_bytes())
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    given = [str(field), str(odd)]
    chosen = suggest(Pitches(), given, [], field.parent / "out", StreamSettings(1.0), SuggestSettings(n=50))
    assert chosen.recordings == 3 and len(chosen.problems) == 1
    assert "caf\\udce9.wav has a name that is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["a,b.wav", 'say "hi".wav', "line\nend.wav", "car\rriage.wav", "<b>&amp;.wav", "鸟 .wav"]
)
def test_names_come_back_from_the_table_as_they_are(field: Path, name: str):
    (field / "doubt.wav").rename(field / name)
    suggested(field, n=2, pool=1)
    assert {row["path"] for row in rows_of(field.parent / "out")} == {str((field / name).resolve())}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n": 0}, "--n 0"),
        ({"n": -3}, "--n -3"),
        ({"pool": 0}, "--pool 0"),
        ({"uncertainty": "none"}, "--uncertainty none"),
    ],
)
def test_values_out_of_range_are_refused(values, words):
    with pytest.raises(UserError, match=words):
        SuggestSettings(**values)


def test_a_model_of_one_species_is_never_unsure(field: Path):
    one = Pitches(classes=("crane",))
    with pytest.raises(UserError, match="knows 1 species"):
        suggest(one, [str(field)], [], field.parent / "out", StreamSettings(1.0), SuggestSettings())
    with pytest.raises(UserError, match="crane alone"):
        suggested(field, species=("crane",))
    assert sorted(path.name for path in field.parent.iterdir()) == ["field"]


def test_of_sets_each_species_may_be_in_doubt_even_a_single_one(field: Path):
    model = Pitches()
    model.input_spec = replace(model.input_spec, task="multi_label")
    settings = SuggestSettings(n=3, uncertainty="margin", pool=1, species=("crane",))
    chosen = suggest(model, [str(field)], [], field.parent / "out", StreamSettings(1.0), settings).suggestions
    assert len(chosen) == 3
    for one in chosen:
        ((name, p),) = one.guesses
        assert name == "crane" and one.score == pytest.approx(1 - abs(2 * p - 1), abs=1e-5)
    assert {row["second_guess"] for row in rows_of(field.parent / "out")} == {""}


def test_silence_is_a_level_that_stays_but_for_a_click():
    window = np.full(RATE_HZ, -0.5, np.float32)
    assert is_silent(np.zeros_like(window), RATE_HZ) and is_silent(window, RATE_HZ)
    window[::2] += 2**-15  # the last of 16 bits
    assert is_silent(window, RATE_HZ)
    window[:79] += 0.1
    assert is_silent(window, RATE_HZ)
    window[:81] += 0.1
    assert not is_silent(window, RATE_HZ)
