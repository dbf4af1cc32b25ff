"""What is written is read back: by pandas, by the catalog's own readers, and by the rules of the programs."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from birdclf.data.sources.audacity import audacity_catalog
from birdclf.data.sources.raven import raven_catalog
from birdclf.detection.detections import Detection
from birdclf.detection.results import FORMATS, Range, Result
from birdclf.text import printable

HEARD = Range(0.0, 16_000.0)
SECONDS = {"a.wav": 10.0, "site/b.flac": 7.25, "site/quiet.wav": 3.0, "c d.wav": 61.5}


def result(name, detections, seconds=10.0, path=None, problem=""):
    return Result(path or f"field/{name}", name, seconds, len(detections) or 1, problem, detections)


@pytest.fixture
def results() -> list[Result]:
    """Four recordings, one without a detection."""
    found = {
        "a.wav": [
            Detection(0.0, 5.0, "Turdus merula", 0.912345, 1),
            Detection(0.0, 10.0, "Owl, barn", 0.4, 2),
            Detection(2.5, 7.5, 'the "loud" one', 1.0, 1),
        ],
        "site/b.flac": [Detection(1.25, 6.333333, "Turdus merula", 0.5, 1)],
        "c d.wav": [Detection(56.5, 61.5, "Ærfugl 鸟", 0.333333, 1)],
    }
    return [result(name, found.get(name, []), seconds) for name, seconds in SECONDS.items()]


def written(format_name, results):
    return {file.name: file for file in FORMATS[format_name](results, HEARD)}


def test_tables_agree_row_by_row(results):
    csv = pd.read_csv(io.BytesIO(written("csv", results)["detections.csv"].content))
    parquet = pd.read_parquet(io.BytesIO(written("parquet", results)["detections.parquet"].content))
    lines = written("jsonl", results)["detections.jsonl"].content.decode().splitlines()
    objects = pd.DataFrame([json.loads(line) for line in lines])
    expected = [(one.path, *found[:5]) for one in results for found in one.detections]
    for table in (csv, parquet, objects):
        assert list(table.columns) == ["path", "start_s", "end_s", "species", "confidence", "windows"]
        assert list(table.itertuples(index=False, name=None)) == expected


@pytest.mark.parametrize("results", [[], [result("a.wav", [])]], ids=["no recording", "no detection"])
def test_nothing_found_is_a_table_without_rows(results):
    csv = pd.read_csv(io.BytesIO(written("csv", results)["detections.csv"].content))
    parquet = pd.read_parquet(io.BytesIO(written("parquet", results)["detections.parquet"].content))
    assert list(csv.columns) == list(parquet.columns) and len(csv) == len(parquet) == 0
    assert written("jsonl", results)["detections.jsonl"].content == b""
    assert not any(file.needed for name, file in written("raven", results).items() if name.startswith("raven/"))
    assert not any(file.needed for file in written("audacity", results).values())
    assert len(pd.read_csv(io.BytesIO(written("raven", results)["detections.selections.txt"].content), sep="\t")) == 0


def times(detections):
    return [(one.start_s, one.end_s, one.species) for one in detections]


def test_raven_tables_by_the_rules_of_raven(results):
    files = written("raven", results)
    assert {name for name, file in files.items() if file.needed} == {
        "raven/a.Table.1.selections.txt",
        "raven/site/b.Table.1.selections.txt",
        "raven/c d.Table.1.selections.txt",
        "detections.selections.txt",
    }
    for one in results:
        table = pd.read_csv(
            io.BytesIO(files[f"raven/{Path(one.name).with_suffix('')}.Table.1.selections.txt"].content),
            sep="\t", quoting=3,
        )  # fmt: skip
        rows = zip(table["Begin Time (s)"], table["End Time (s)"], table["Species"], strict=True)
        assert list(rows) == times(one.detections)
        assert table["Selection"].tolist() == list(range(1, len(table) + 1))
        assert table["File Offset (s)"].tolist() == table["Begin Time (s)"].tolist()
        assert (table[["Low Freq (Hz)", "High Freq (Hz)"]] == [0.0, 16_000.0]).all(axis=None)
        assert set(table["Begin Path"]) <= {one.path}


def test_in_the_table_of_all_times_count_on_from_file_to_file(results):
    table = pd.read_csv(
        io.BytesIO(written("raven", results)["detections.selections.txt"].content), sep="\t", quoting=3
    )  # fmt: skip
    before_s = dict(zip([one.path for one in results], np.cumsum([0, *SECONDS.values()]), strict=False))
    expected = [(one.path, found) for one in results for found in one.detections]
    assert len(table) == len(expected) and table["Selection"].tolist() == list(range(1, len(expected) + 1))
    for row, (path, found) in zip(table.to_dict("records"), expected, strict=True):
        assert row["Begin Path"] == path and row["Species"] == found.species
        assert row["File Offset (s)"] == found.start_s
        assert row["Begin Time (s)"] == pytest.approx(before_s[path] + found.start_s, abs=1e-9)
        assert row["End Time (s)"] == pytest.approx(before_s[path] + found.end_s, abs=1e-9)


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """The recordings, as silence."""
    for name, seconds in SECONDS.items():
        file = tmp_path / "field" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, np.zeros(round(seconds * 1_000)), 1_000)
    return tmp_path / "field"


def of_catalog(catalog):
    table = catalog.table
    return sorted(zip(table.group, table.start_s, table.end_s, table.species, strict=True))


def of_results(results):
    return sorted((one.name, *row) for one in results for row in times(one.detections))


def test_the_catalog_reads_raven_tables_back(results, field: Path):
    for name, file in written("raven", results).items():
        if name.startswith("raven/") and file.needed:
            (field / name.removeprefix("raven/")).write_bytes(file.content)
    assert of_catalog(raven_catalog(str(field))) == of_results(results)


def test_the_catalog_reads_the_table_of_all_back(results, field: Path):
    (field / "detections.selections.txt").write_bytes(written("raven", results)["detections.selections.txt"].content)
    assert of_catalog(raven_catalog(str(field))) == of_results(results)


def test_the_catalog_and_a_split_at_tabs_read_audacity_labels_back(results, field: Path):
    own = []
    for name, file in written("audacity", results).items():
        if not file.needed:
            continue
        (field / name.removeprefix("audacity/")).write_bytes(file.content)
        for line in file.content.decode().splitlines():
            start, end, label = line.split("\t")
            own.append((float(start), float(end), label))
    assert of_catalog(audacity_catalog(str(field))) == of_results(results)
    assert sorted(own) == sorted(row for one in results for row in times(one.detections))


@pytest.mark.parametrize("name", ["../../up.wav", "/elsewhere/up.wav", "./here.wav", "a/../../b.wav", ".."])
def test_no_name_leads_out_of_the_folder(name):
    one = result(name, [Detection(0.0, 1.0, "a", 0.5, 1)], path=name)
    for kind in ("raven", "audacity"):
        for file in written(kind, [one]):
            assert ".." not in Path(file).parts and not file.startswith("/")


@pytest.mark.parametrize(
    "odd", ["tab\there.wav", "line\nend.wav", "<b>&amp;.wav", "a\x1b[31m.wav", 'quote".wav', "=1+1.wav"]
)
def test_odd_names_stay_in_their_cell(odd):
    species = odd.removesuffix(".wav")
    one = result(odd, [Detection(0.0, 1.0, species, 0.5, 1), Detection(1.0, 2.0, "b", 0.5, 1)], path=printable(odd))
    csv = pd.read_csv(io.BytesIO(written("csv", [one])["detections.csv"].content))
    parquet = pd.read_parquet(io.BytesIO(written("parquet", [one])["detections.parquet"].content))
    assert csv.path.tolist() == parquet.path.tolist() == [printable(odd)] * 2 and csv.species.tolist() == [species, "b"]
    for name, file in written("raven", [one]).items():
        assert printable(name) == name
        table = pd.read_csv(io.BytesIO(file.content), sep="\t", quoting=3)
        assert table["Species"].tolist() == [printable(species), "b"] and set(table["Begin Path"]) == {printable(odd)}
    (labels,) = written("audacity", [one]).values()
    assert labels.content.decode().splitlines() == [
        f"0.000000\t1.000000\t{printable(species)}",
        "1.000000\t2.000000\tb",
    ]
    objects = [json.loads(line) for line in written("jsonl", [one])["detections.jsonl"].content.decode().splitlines()]
    assert [row["species"] for row in objects] == [species, "b"]
