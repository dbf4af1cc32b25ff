from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from birdclf.audio.files import FileReader
from birdclf.config import conf_dir
from birdclf.data.catalog import Catalog, Selection, select
from birdclf.data.sources.folder import folder_catalog
from birdclf.errors import UserError


@pytest.fixture
def catalog() -> Catalog:
    species = ["great tit"] * 6 + ["blue tit"] * 3 + ["wren"]
    table = pd.DataFrame(
        {
            "recording_id": [f"r{i}" for i in range(10)],
            "species": species,
            "scientific_name": ["Parus major"] * 6 + ["Cyanistes caeruleus"] * 3 + ["Troglodytes troglodytes"],
            "family": ["Paridae"] * 9 + [np.nan],
            "quality": [5, 4, 3, 2, 1, np.nan, 5, 5, 1, 3],
        }
    )
    return Catalog(table, FileReader(), "made")


def test_nothing_asked_for_changes_nothing(catalog):
    assert select(catalog) is catalog


def test_species_by_list_and_by_file(catalog, tmp_path):
    (tmp_path / "names.txt").write_text("\ufeffwren\n\nblue tit\n", encoding="utf-8")
    assert select(catalog, species=["wren", "blue tit"]).classes == ("blue tit", "wren")
    assert select(catalog, species=str(tmp_path / "names.txt")).classes == ("blue tit", "wren")
    assert select(catalog, exclude=["wren"]).classes == ("blue tit", "great tit")


def test_labels(catalog):
    assert select(catalog, label="genus").classes == ("Cyanistes", "Parus", "Troglodytes")
    family = select(catalog, label="family")
    assert family.classes == ("Paridae",) and len(family) == 9
    assert set(family.table.original_species) == {"great tit", "blue tit"}
    assert select(catalog, label="genus", species=["Parus"]).classes == ("Parus",)


@pytest.mark.parametrize(("least", "left"), [(3, 6), ("A", 3), ("e", 9), (1.5, 7)])
def test_quality_leaves_unrated_recordings_out(catalog, least, left):
    assert len(select(catalog, min_quality=least)) == left


def test_quality_after_a_choice_of_species(catalog):
    assert list(select(catalog, species=["blue tit"], min_quality="A").table.recording_id) == ["r6", "r7"]


def test_a_maximum_is_nested(catalog):
    two, three = (set(select(catalog, max_per_species=n).table.recording_id) for n in (2, 3))
    assert two < three and len(two) == 5 and len(three) == 7


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"species": ["great tid"]}, "Did you mean 'great tit'"),
        ({"species": "gone.txt"}, "is not a file"),
        ({"exclude": ["ostrich"]}, "data.exclude names 'ostrich'"),
        ({"label": "order"}, "no such column"),
        ({"min_quality": 6}, "from 1 to 5"),
        ({"min_quality": "F"}, "from A"),
        ({"max_per_species": 0}, "1 or more"),
        ({"species": ["wren"], "min_quality": 5}, "no recording is left"),
    ],
)
def test_what_cannot_be_is_refused(catalog, settings, words):
    with pytest.raises(UserError, match=words):
        select(catalog, **settings)


def test_quality_unknown_to_the_source_is_refused(catalog):
    bare = Catalog(catalog.table.drop(columns="quality"), catalog.reader, "bare")
    with pytest.raises(UserError, match="has no quality ratings"):
        select(bare, min_quality=3)


@pytest.mark.parametrize("path", sorted((conf_dir() / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_source_offers_every_setting_at_its_neutral_value(path: Path):
    offered = OmegaConf.load(path)
    neutral = dict.fromkeys(Selection.__annotations__) | {"label": "species", "secondary": "positive"}
    assert {key: offered[key] for key in Selection.__annotations__} == neutral


def test_a_source_passes_the_settings_on(folder):
    root = Path(folder.table.path[0]).parents[1]
    assert set(folder_catalog(str(root), max_per_species=3).class_counts) == {3}
    assert folder_catalog(str(root), exclude=[folder.classes[0]]).classes == folder.classes[1:]


def test_names_that_read_like_values_are_kept_apart(catalog):
    table = catalog.table.assign(species=["NA", "null", "007", "1e3", "TRUE", "None", "nan", "1", "True", "tit"])
    made = Catalog(table, FileReader(), "made")
    for name in ("NA", "null", "007", "1e3", "TRUE", "None", "nan"):
        assert select(made, species=[name]).classes == (name,)
    assert select(made, species=[1, True]).classes == ("1", "True")
    for value, said in ((None, "null"), (1000.0, "1000.0"), (7, "7")):
        with pytest.raises(UserError, match=rf"data\.species holds the value {said}, not a name\. Quote a name"):
            select(made, species=[value])


@pytest.mark.parametrize("key", ["species", "exclude"])
def test_a_list_in_another_encoding_is_refused_as_everywhere(catalog, tmp_path, key):
    (tmp_path / "l.txt").write_bytes("wren\nGr\u00fcnfink\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"l\.txt: line 2 is not UTF-8 \(byte 0xFC\).*iconv -f CP1252"):
        select(catalog, **{key: str(tmp_path / "l.txt")})
    (tmp_path / "l.csv").write_text("species,n\nwren,1\n", encoding="utf-16")
    assert select(catalog, species=str(tmp_path / "l.csv")).classes == ("wren",)


def test_what_is_left_out_is_counted(catalog, caplog):
    with caplog.at_level("INFO"):
        select(catalog, min_quality=5)
    assert caplog.messages == ["made: 7 of 10 recordings are left out by data.*"]


@pytest.fixture
def several() -> Catalog:
    """Return a catalog of sets of labels, one of them empty."""
    table = pd.DataFrame(
        {
            "recording_id": ["a", "b", "c", "d"],
            "species": ["great tit", "wren", "none", "blue tit"],
            "labels": [["wren", "great tit", "wren"], ["wren"], [], ["blue tit", "great tit"]],
            "family": ["Paridae", "Troglodytidae", "", "Paridae"],
        }
    )
    return Catalog(table, FileReader(), "made")


def test_sets_of_labels_are_sorted_and_hold_each_name_once(several, catalog):
    assert several.table.labels.tolist() == [("great tit", "wren"), ("wren",), (), ("blue tit", "great tit")]
    assert catalog.table.labels.tolist()[:2] == [("great tit",), ("great tit",)]
    bare = several.table.drop(columns="labels")
    assert Catalog(bare, FileReader(), "made").table.labels.tolist() == [("great tit",), ("wren",), (), ("blue tit",)]
    assert Catalog(bare, FileReader(), "made").content_hash == several.content_hash


def test_labels_follow_the_renamed_class(several):
    made = select(several, label="family").table
    assert made.species.tolist() == ["Paridae", "Troglodytidae", "none", "Paridae"]
    assert made.labels.tolist() == [("Paridae", "Troglodytidae"), ("Troglodytidae",), (), ("Paridae",)]


def test_labels_outside_the_kept_classes_are_dropped(several):
    made = select(several, species=["great tit", "none"]).table
    assert made.recording_id.tolist() == ["a", "c"] and made.labels.tolist() == [("great tit",), ()]
    made = select(several, exclude=["great tit"]).table
    assert made.recording_id.tolist() == ["b", "c", "d"] and made.labels.tolist() == [("wren",), (), ("blue tit",)]


def test_secondary_species(several):
    assert select(several, secondary="positive") is several
    ignored = select(several, secondary="ignore").table
    assert ignored.labels.tolist() == [("great tit",), ("wren",), (), ("blue tit",)] and "masked" not in ignored
    masked = select(several, secondary="mask", exclude=["wren"]).table
    assert masked.labels.tolist() == [("great tit",), (), ("blue tit",)]
    assert masked.masked.tolist() == [(), (), ("great tit",)]
    with pytest.raises(UserError, match=r"data\.secondary is 'maybe'; it must be one of positive, ignore, mask"):
        select(several, secondary="maybe")
