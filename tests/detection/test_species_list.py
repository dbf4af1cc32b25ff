"""A list of the species that occur at a place."""

from pathlib import Path

import pytest

from birdclf.detection.inputs import known_species, read_species
from birdclf.errors import UserError

CLASSES = ("Apus apus", "Bubo bubo", "Pica pica", "pica pica")


def listed(file: Path, text: str):
    file.write_text(text, encoding="utf-8")
    return read_species(file, CLASSES)


def test_a_line_each_with_remarks_and_in_any_case(tmp_path: Path):
    text = "\ufeff# of our garden\nBubo bubo  # at night\r\n\n  APUS APUS\nBubo bubo\n"
    assert listed(tmp_path / "list.txt", text) == ("Bubo bubo", "Apus apus")


def test_a_table_with_a_column(tmp_path: Path):
    assert listed(tmp_path / "list.CSV", "count,species\n3,Bubo bubo\n1,apus apus\n") == ("Bubo bubo", "Apus apus")


def test_names_that_differ_in_case_alone_are_told_apart():
    assert known_species(["pica pica", "Pica pica"], CLASSES, "it") == ("pica pica", "Pica pica")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("list.txt", "Bubo bobo\n", "'Bubo bobo', which is none of the model's 4 species. Did you mean 'Bubo bubo'"),
        ("list.txt", "penguin\n", "'penguin'.* Drop it"),
        ("list.txt", "# nothing\n\n", "names no species"),
        ("list.csv", "species\n", "names no species"),
        ("list.csv", "name\nBubo bubo\n", r"lacks the column\(s\) species"),
        ("list.csv", "species,n\n,1\n", "line 2 has no species"),
    ],
)
def test_what_would_never_be_found_is_refused(tmp_path: Path, name, text, words):
    with pytest.raises(UserError, match=words):
        listed(tmp_path / name, text)


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.txt cannot be read"):
        read_species(tmp_path / "gone.txt", CLASSES)
    (tmp_path / "latin.txt").write_bytes("Bubo bub\u00f6\n".encode("latin-1"))
    with pytest.raises(UserError, match="line 1 is not UTF-8"):
        read_species(tmp_path / "latin.txt", CLASSES)
