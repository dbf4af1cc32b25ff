"""What a user says of detections, on disk: nothing of others is lost, and all of it can be trained on."""

import csv
import json
import os
from pathlib import Path

import pytest
from serving.servers import Served, sound

from birdclf.data.labels import targets_of
from birdclf.data.sources.manifest import manifest_catalog
from birdclf.errors import UserError
from birdclf.serving.corrections import Corrections, Row


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_a_manifest_to_train_on(served: Served):
    told = served.heard(sound((2, 2, 2), (0.9, 0.1, 0)), "my song.wav", hop=0.5)
    answer = served.save(told, (0, "confirmed", ""), (1, "corrected", "  Turdus   merula "), (2, "no bird", ""))
    assert answer.json()["saved"] == {"labels": 2, "no_bird": 1, "all_labels": 2, "recordings": 1}
    path = f"recordings/{told['id']}_my song.wav"
    first, second = table(served.folder / "corrections.csv")
    assert first == {
        "recording_id": f"{path}#0-2.5", "path": path, "species": "Apus apus", "labels": "Apus apus;Turdus merula",
        "start_s": "0", "end_s": "2.5", "group": path, "predicted": "Apus apus", "confidence": "0.85",
        "verdict": "confirmed",
    }  # fmt: skip
    assert (second["species"], second["predicted"], second["verdict"]) == ("Turdus merula", "Pica pica", "corrected")
    (none,) = table(served.folder / "no_bird.csv")
    assert "species" not in none and (none["predicted"], none["verdict"]) == ("Sitta europaea", "no bird")
    catalog = manifest_catalog(str(served.folder / "corrections.csv"))
    assert catalog.classes == ("Apus apus", "Turdus merula") and set(catalog.table.group) == {path}
    with catalog.reader.open(catalog.clips()[0]) as opened:
        assert sum(map(len, opened.blocks)) == 2.5 * 8000


def test_several_species_at_once_are_labels_of_their_stretch(serving, served: Served):
    told = served.heard(sound(), "one.wav")
    answer = served.save(told, (0, "corrected", " parus  major; Pica pica;;parus major"), (1, "no bird", ""))
    assert [row["species"] for row in answer.json()["rows"]] == ["parus major; Pica pica", ""]
    first, second, none = table(served.folder / "corrections.csv")
    assert [row["species"] for row in (first, second, none)] == ["parus major", "Pica pica", "none"]
    assert first["labels"] == second["labels"] == "Pica pica;parus major" and none["labels"] == ""
    assert len({row["recording_id"] for row in (first, second, none)}) == 3
    catalog = manifest_catalog(str(served.folder / "corrections.csv"))
    target = targets_of(catalog.table, ("Pica pica", "parus major"), "multi_label")
    assert target.tolist() == [[1, 1], [1, 1], [0, 0]]
    assert catalog.classes == ("Pica pica", "none", "parus major")  # of one species a recording
    csv_text = served.client.get(f"/recordings/{told['id']}/table/csv").text
    assert "parus major" in csv_text and "Pica pica" in csv_text
    served.session.stop()
    again = serving(served.folder).heard(sound(), "one.wav")
    assert [(row["verdict"], row["species"]) for row in again["rows"]] == [
        ("corrected", "parus major; Pica pica"),
        ("no bird", ""),
    ]


def test_a_rejected_detection_is_no_empty_stretch_where_another_may_be_a_bird(served: Served):
    told = served.heard(sound((2,), (0.9,)), min_confidence=0.01)
    served.save(told, (0, "no bird", ""))  # the others at the same time are not judged
    assert not (served.folder / "corrections.csv").exists()
    served.save(told, (0, "no bird", ""), (1, "confirmed", ""), (2, "corrected", "none"))
    assert [row["verdict"] for row in table(served.folder / "corrections.csv")] == ["confirmed"]
    assert len(table(served.folder / "no_bird.csv")) == 2
    served.save(told, *((n, "no bird", "") for n in range(len(told["rows"]))))
    assert {row["species"] for row in table(served.folder / "corrections.csv")} == {"none"}


def test_two_birds_at_once_have_ids_of_their_own(served: Served):
    told = served.heard(sound((2,), (0.9,)), min_confidence=0.01)
    served.save(told, (0, "confirmed", ""), (1, "confirmed", ""), (2, "corrected", "Parus major"))
    assert len(manifest_catalog(str(served.folder / "corrections.csv"))) == 3


def test_saving_again_changes_the_rows_of_that_recording_alone(served: Served):
    one, two = served.heard(sound(), "one.wav"), served.heard(sound((1, 3)), "two.wav")
    served.save(one, (0, "confirmed", ""), (1, "no bird", ""))
    served.save(two, (0, "corrected", "Parus major"))
    served.save(one, (1, "corrected", "Parus major"))
    rows = table(served.folder / "corrections.csv")
    assert [(row["path"][28:], row["species"], row["start_s"]) for row in rows] == [
        ("two.wav", "Parus major", "0"),
        ("one.wav", "Parus major", "2"),
    ]
    assert table(served.folder / "no_bird.csv") == []


def test_what_was_saved_is_there_when_the_recording_comes_again(serving, served: Served):
    told = served.heard(sound(), "one.wav")
    served.save(told, (0, "corrected", "Parus major"), (1, "no bird", ""))
    served.session.stop()
    again = serving(served.folder)
    told = again.heard(sound(), "other name.wav")
    assert [(row["verdict"], row["species"]) for row in told["rows"]] == [("corrected", "Parus major"), ("no bird", "")]
    told = again.heard(sound(), "one.wav", hop=0.4)  # other stretches: what was said of the former stays in the table
    assert [(row["end_s"], row["verdict"]) for row in told["rows"] if row["verdict"]] == [
        (2.0, "corrected"),
        (4.0, "no bird"),
    ]
    assert len(told["rows"]) > 2
    n = next(n for n, row in enumerate(told["rows"]) if not row["verdict"])
    kept = [(m, row["verdict"], row["species"]) for m, row in enumerate(told["rows"]) if row["verdict"]]
    again.save(told, *kept, (n, "confirmed", ""))
    assert len(table(served.folder / "corrections.csv")) == 2 and len(table(served.folder / "no_bird.csv")) == 1


def test_what_others_wrote_into_the_file_stays(served: Served):
    told = served.heard(sound(), "one.wav")
    served.save(told, (0, "confirmed", ""))
    file = served.folder / "corrections.csv"
    rows = table(file)
    mine = {**rows[0], "path": "mine.wav", "recording_id": "mine", "note": 'a "note",\nof two lines', "species": "x"}
    whole = {**mine, "path": rows[0]["path"], "recording_id": "all of it", "start_s": "", "end_s": ""}
    with file.open("w", newline="", encoding="utf-8-sig") as opened:
        writer = csv.DictWriter(opened, ["note", *rows[0]])
        writer.writeheader()
        writer.writerows([mine, whole, rows[0] | {"note": "loud"}])
    answer = served.save(told, (0, "corrected", "Parus major"), (1, "confirmed", ""))
    assert answer.status_code == 200, answer.text
    after = table(file)
    assert after[:2] == [mine, whole]
    assert [(row["note"], row["species"]) for row in after[2:]] == [("loud", "Parus major"), ("", "Pica pica")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name,species\na,b\n", "lacks the column(s) path, start_s, end_s"),
        (b"path,species,start_s,end_s\na,b,0\n", "line 2 has 3 values for 4 columns"),
        (b"path,path,species,start_s,end_s\n", "2 columns named 'path'"),
        (b"path,species,start_s,end_s\n\xff,b,0,1\n", "line 2 is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_left_as_it_is(served: Served, content: bytes, words: str):
    told = served.heard(sound())
    file = served.folder / "corrections.csv"
    file.write_bytes(content)
    answer = served.save(told, (0, "confirmed", ""), (1, "no bird", ""))
    assert answer.status_code == 409 and words in answer.json()["problem"]
    assert file.read_bytes() == content and not (served.folder / "no_bird.csv").exists()
    other = served.heard(sound((1, 1)))  # of a new recording nothing can be known then either
    assert other["state"] == "failed" and words in other["problem"]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"row": 0, "verdict": "corrected", "species": " "}, "label is empty"),
        ({"row": 0, "verdict": "corrected"}, "label is empty"),
        ({"row": 0, "verdict": "corrected", "species": ["a"]}, "label is empty"),
        ({"row": 0, "verdict": "corrected", "species": "x" * 101}, "longer than 100"),
        ({"row": 0, "verdict": "corrected", "species": "=HYPERLINK(1)"}, "begin with a letter"),
        ({"row": 0, "verdict": "corrected", "species": "a\x1b[31m"}, "on one line"),
        ({"row": 0, "verdict": "loved"}, "verdict that is unknown"),
        ({"row": 99, "verdict": "confirmed"}, "a row that is not there"),
        ({"row": -1, "verdict": "confirmed"}, "a row that is not there"),
        ({"row": True, "verdict": "confirmed"}, "a row that is not there"),
        ("row", "a row that is not there"),
    ],
)
def test_corrections_that_make_no_sense(served: Served, item, words: str):
    told = served.heard(sound())
    answer = served.client.post(
        f"/recordings/{told['id']}/corrections", json={"version": told["version"], "rows": [item]}
    )
    assert answer.status_code == 422 and words in answer.json()["problem"]
    assert not (served.folder / "corrections.csv").exists()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"rows": 3, "version": 1}'])
def test_bodies_that_are_none(served: Served, body: bytes):
    told = served.heard(sound())
    answer = served.client.post(f"/recordings/{told['id']}/corrections", content=body)
    assert answer.status_code == 422 and answer.json()["problem"]


def test_a_body_that_is_too_large(served: Served, monkeypatch):
    monkeypatch.setattr("birdclf.serving.app.LARGEST_CORRECTIONS", 10)
    assert served.save(served.heard(sound())).status_code == 413


def test_names_are_spelt_as_the_model_does(served: Served):
    told = served.heard(sound())
    rows = served.save(told, (0, "corrected", "PICA PICA"), (1, "corrected", "pica pica")).json()["rows"]
    assert [(row["species"], row["verdict"]) for row in rows] == [
        ("Pica pica", "corrected"),
        ("Pica pica", "confirmed"),
    ]


def test_what_an_older_page_says_is_refused(served: Served):
    told = served.heard(sound())
    served.client.post(f"/recordings/{told['id']}/again", params={"hop": 0.5})
    served.ended(told["id"])
    answer = served.save(told, (0, "confirmed", ""))
    assert answer.status_code == 409 and "Reload" in answer.json()["problem"]


def test_a_full_disk_leaves_the_files_as_they_were(served: Served, monkeypatch):
    told = served.heard(sound())
    served.save(told, (0, "confirmed", ""))
    before = (served.folder / "corrections.csv").read_bytes()

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    answer = served.save(told, (1, "confirmed", ""))
    assert answer.status_code == 507 and "No space left" in answer.json()["problem"]
    assert (served.folder / "corrections.csv").read_bytes() == before
    assert [path.name for path in served.folder.glob(".*")] == []
    assert json.loads(served.client.get(f"/recordings/{told['id']}").text)["rows"][1]["verdict"] == ""


def test_what_would_lose_rows_is_refused_and_kept(tmp_path: Path):
    rows = [Row(0.0, 1.0, "NA", None, "corrected", ("null",))]
    corrections = Corrections(tmp_path)
    corrections.save("a.wav", rows)
    whole = corrections.labels.read_text()
    for text, words in (
        (whole + 'b.wav#0-1,b.wav,"wren,0,1,b.wav,,,\n' * 2, "the quote that opens in line 3 is"),
        (whole.replace(",", ";"), "separated by semicolons"),
    ):
        corrections.labels.write_text(text)
        with pytest.raises(UserError, match=words):
            corrections.save("a.wav", rows)
        assert corrections.labels.read_text() == text
