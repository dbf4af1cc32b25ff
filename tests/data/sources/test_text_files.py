"""Text files as users have them: other encodings, separators and quotes are read, or refused by their line."""

import logging
from pathlib import Path

import pytest

from birdclf.data.sources.audacity import audacity_catalog
from birdclf.data.tables import read_csv, read_names, read_own, read_text
from birdclf.errors import UserError

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_a_mark_names_are_read(file: Path, encoding: str):
    file.write_text("species\nGrünspecht\n", encoding=encoding)
    assert read_names(file) == ["Grünspecht"]


def test_utf_16_of_the_other_byte_order_is_read(file: Path):
    file.write_bytes("\ufeffspecies\nGrünspecht\n".encode("utf-16-be"))
    assert read_names(file) == ["Grünspecht"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("species\nVerreaux\u2019s\n".encode("cp1252"), r"line 2 is not UTF-8 \(byte 0x92\).*iconv -f CP1252 -t UTF-8"),
        ("species\nGrünfink\n".encode("latin-1"), r"line 2 is not UTF-8 \(byte 0xFC\).*iconv -f CP1252 -t UTF-8"),
        ("species\n".encode("utf-16-le"), "is UTF-16.*iconv -f UTF-16LE"),
        ("species\n".encode("utf-16-be"), "is UTF-16.*iconv -f UTF-16BE"),
        ("species\n".encode("utf-16")[:-1], "begins as UTF-16 but continues in another encoding"),
        (LFS.encode(), "is a Git LFS pointer, not the file itself.*git lfs pull"),
    ],
)
def test_other_encodings_and_pointers_are_refused_with_the_remedy(file: Path, data: bytes, words: str):
    file.write_bytes(data)
    with pytest.raises(UserError, match=words):
        read_text(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a,b\n1,2\n3,"so-so\n5,6\n7,8\n', "the quote that opens in line 3 is not closed"),
        ('a,b\n1,"x\ny"\n3,"so-so', "the quote that opens in line 4 is not closed"),
        ('a,b\n1,"' + "x\n" * 100_000 + "2,3\n", "the quote that opens in line 2 is not closed"),
        ('a,b\n1,"so-so\n5,6\n7,"good"\n', "opens in line 2 is closed within a value, in line 4"),
        ('a,b\n1,"so"-so\n', "opens in line 2 is closed within a value, in line 2"),
        ('a,b\n1,2\n3,"so\n5,6\nso",7\n', "lines 3 to 5, one row, has 3 values for 2 columns"),
        ("a,b\n\n1,2,3\n", "line 3 has 3 values for 2 columns"),
        ("path;species;start_s\na;b;0,5\n", "separated by semicolons.*commas.*points"),
        ('"path";"species"\n"a";"b"\n', "separated by semicolons"),
        ("sep=;\npath;species\na;b\n", "separated by semicolons"),
        ("path\tspecies\na\tb\n", "separated by tabs"),
    ],
)
@pytest.mark.parametrize("read", [read_csv, read_own])
def test_a_table_that_would_lose_rows_is_refused_by_its_line(file: Path, read, text: str, words: str):
    file.write_text(text)
    with pytest.raises(UserError, match=words):
        read(file)


@pytest.mark.parametrize("value", ['so-"so', '"so-""so"', '"a, b"', "it's", ";", "\t"])
def test_quotes_that_leave_no_doubt_are_read(file: Path, value: str, caplog: pytest.LogCaptureFixture):
    file.write_text(f"a,b\n1,{value}\n2,x\n")
    table = read_csv(file)
    assert table.a.tolist() == ["1", "2"] and list(table.index) == [2, 3] and not caplog.messages


@pytest.mark.parametrize(
    ("value", "warned"),
    [('"a remark\nof two lines"', False), ('"so-so\n2,x\n3,so-so"', True), ('"so-so\n3,so-so"', True)],
)
def test_rows_that_quotes_join_are_reported(file: Path, caplog: pytest.LogCaptureFixture, value: str, warned: bool):
    file.write_text(f"a,b\n1,{value}\n")
    with caplog.at_level(logging.WARNING):
        assert len(read_csv(file)) == 1
    assert [text for text in caplog.messages if "are one row" in text and "quote of line 2" in text] == (
        caplog.messages if warned else []
    )
    assert bool(caplog.messages) == warned


def test_a_mark_before_remarks_stands_alone(file: Path):
    names = file.with_suffix(".txt")
    names.write_text("# ours\nXC#12 # loud\nNA\n\n 007\n")
    assert read_names(names) == ["XC#12", "NA", "007"]


def test_annotations_in_utf_16_are_read_and_a_pointer_is_named(tmp_path: Path, tone):
    tone(tmp_path / "a.wav")
    (tmp_path / "a.txt").write_text("0\t1\tGrünfink\n", encoding="utf-16")
    assert audacity_catalog(str(tmp_path)).classes == ("Grünfink",)
    (tmp_path / "a.txt").write_text(LFS)
    with pytest.raises(UserError, match="Git LFS pointer"):
        audacity_catalog(str(tmp_path))
