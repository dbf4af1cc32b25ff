"""Names are text: what is written is read back as it was, in every table of names."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.data.sources.fetch.download import Ledger
from birdclf.data.sources.manifest import manifest_catalog
from birdclf.data.splits import FileSplit
from birdclf.data.tables import csv_text, read_names, read_own
from birdclf.errors import UserError
from birdclf.metrics.predictions import Predictions, read_predictions, write_predictions
from birdclf.runs.run import Run
from birdclf.serving.corrections import CORRECTED, Corrections, Row

TELLING = [
    "NA",
    "nan",
    "None",
    "null",
    "N/A",
    "#N/A",
    "007",
    "1e3",
    "TRUE",
    "-inf",
    "0x1",
    "",
    " a ",
    "a,b",
    "a;b",
    'a"b',
]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
NAMES = st.lists(st.sampled_from(TELLING) | TEXT | st.sampled_from(["a\nb", "a\rb", "\r\n", "\ufeffa"]), unique=True)
WORDS = NAMES.map(lambda names: sorted({" ".join(name.split()).lstrip("\ufeff") for name in names} - {""}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@given(NAMES)
def test_a_table_of_a_run_folder(folder: Path, names: list[str]):
    table = pd.DataFrame({"recording_id": names, "species": names[::-1], "n": 0.5, "split": "val"}, dtype=object)
    file = folder / "split.csv"
    file.write_text(csv_text(table), encoding="utf-8", newline="")
    read = read_own(file, ("recording_id", "species"))
    assert read.recording_id.tolist() == names and read.species.tolist() == names[::-1]
    assert Run(folder).split.recording_id.tolist() == names
    assert set(FileSplit(str(file)).stages.index) == set(names)


@given(NAMES.filter(len))
def test_saved_predictions(folder: Path, names: list[str]):
    ids, target = np.array(names, dtype=object), np.arange(len(names))
    made = Predictions(ids, target, np.eye(len(names), dtype=np.float32), ids)
    write_predictions(folder / "predictions.parquet", [made.table("test", tuple(names))])
    read, classes = read_predictions(folder / "predictions.parquet", "test")
    assert list(classes) == names and read.target.tolist() == target.tolist()
    assert read.recording_id.tolist() == read.cluster.tolist() == names


@given(WORDS)
def test_the_ledger_of_fetch(folder: Path, names: list[str]):
    file = folder / "ledger.csv"
    file.unlink(missing_ok=True)
    ledger = Ledger(file, ("id", "species"))
    for name in names:
        ledger.add({"id": name, "species": name})
    ledger.rewrite()
    assert Ledger(file, ("id", "species")).rows == {name: {"id": name, "species": name} for name in names}


@given(WORDS)
def test_corrections(folder: Path, names: list[str]):
    corrections = Corrections(folder)
    rows = [Row(float(i), i + 1.0, name, None, CORRECTED, (name,)) for i, name in enumerate(names)]
    corrections.save("NA", rows)
    assert [(row.species, row.predicted) for row in corrections.of("NA")] == [((name,), name) for name in names]


@given(WORDS.filter(len), st.sampled_from(["csv", "parquet"]))
def test_a_manifest(folder: Path, names: list[str], kind: str):
    (folder / "NA").touch()
    table = pd.DataFrame({"path": "NA", "recording_id": names, "species": names, "group": names})
    file = folder / f"list.{kind}"
    if kind == "csv":
        with file.open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([table.columns, *table.values.tolist()])
    else:
        table.to_parquet(file)
    made = manifest_catalog(str(file)).table
    assert made.recording_id.tolist() == made.species.tolist() == made.group.tolist() == sorted(names)
    assert set(manifest_catalog(str(file), species=names).classes) == set(names)


@given(WORDS.filter(len), st.sampled_from(["csv", "txt"]))
def test_a_list_of_species(folder: Path, names: list[str], kind: str):
    names = [name for name in names if "#" not in name] or ["NA"]
    file = folder / f"species.{kind}"
    if kind == "csv":
        file.write_text(csv_text(pd.DataFrame({"species": names})), encoding="utf-8")
    else:
        file.write_text("\n".join(names), encoding="utf-8")
    assert read_names(file) == names


def test_a_table_that_is_gone_or_empty_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"split\.csv does not exist\. Restore it"):
        read_own(tmp_path / "split.csv")
    (tmp_path / "split.csv").touch()
    with pytest.raises(UserError, match="is empty"):
        read_own(tmp_path / "split.csv")


def test_what_a_ledger_skips_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = tmp_path / "recordings.csv"
    file.write_text("id,species\n1,NA\n,wren\n2,ro")
    assert set(Ledger(file, ("id", "species")).rows) == {"1"}
    assert any("last line is not whole" in text for text in caplog.messages)
    assert any("1 rows have no id" in text for text in caplog.messages)
    file.write_text('id,species\n1,"wren\n2,robin\n')
    with pytest.raises(UserError, match="the quote that opens in line 2 is not closed"):
        Ledger(file, ("id", "species"))
