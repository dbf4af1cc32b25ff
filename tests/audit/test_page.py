import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_audit import audit_of

from birdclf.audit.page import NUMBERS, write_page

VOID = {"meta", "br", "path", "use", "rect"}  # path, use and rect close themselves


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, and the rows of the tables of each section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.said: dict[str, str] = {}
        self._open: list[str] = []
        self._section = ""
        self.feed(text)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag in VOID:
            return
        self._open.append(tag)
        if tag == "section":
            self._section = str(dict(attributes)["id"])
            self.rows[self._section], self.said[self._section] = [], ""
        elif tag == "tr":
            self.rows[self._section].append([])
        elif tag in ("td", "th"):
            self.rows[self._section][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag, f"{tag} closes nothing"
        if tag == "section":
            self._section = ""

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.said[self._section] = self.said.get(self._section, "") + " " + data
        if {"td", "th"} & set(self._open[-2:]):
            self.rows[self._section][-1][-1] += data

    def worst(self, problem: str) -> list[str]:
        """Return the ids below a problem, from the first to the last."""
        blocks: list[list[str]] = []
        for row in self.rows["worst"]:
            if row[0] == "recording":
                blocks.append([])
            else:
                blocks[-1].append(row[0])
        names = [row[0] for row in self.rows["problems"][1:]]
        return blocks[names.index(problem)]


def page_of(audit: pd.DataFrame, folder: Path, name: str = "birds") -> Page:
    write_page(audit, name, folder / "page.html")
    return Page((folder / "page.html").read_text(encoding="utf-8"))


HOSTILE = "<script>alert(1)</script>\"'\n&amp; Drossel Größe"


def test_names_are_shown_and_never_run(tmp_path):
    plain = page_of(audit_of(2, problems="clipped", audio_hash="same"), tmp_path)
    audit = audit_of(2, problems="clipped", audio_hash="same", reason=HOSTILE)
    audit.loc[0, ["recording_id", "species"]] = HOSTILE
    page = page_of(audit, tmp_path, name=HOSTILE)
    printable = HOSTILE.replace("\n", "\\n")
    assert [tag for tag, _ in page.tags].count("script") == [tag for tag, _ in plain.tags].count("script") == 1
    assert printable in page.said[""]  # title and heading
    assert page.rows["conflicting"][1][1:3] == [printable, printable]
    assert page.rows["worst"][1][:2] == [printable, printable] and page.rows["worst"][1][-1] == printable
    assert [printable, "1", "0", "0", "0.00"] in page.rows["species"]


def test_a_name_that_is_no_unicode_is_escaped(tmp_path):
    page = page_of(audit_of(1), tmp_path, name="caf\udce9\x00")
    assert "caf\\udce9\\x00" in page.said[""]


def test_equal_audio_with_different_labels_comes_first(tmp_path):
    hashes = ["same", "b", "same", "twin", "twin", ""]
    audit = audit_of(6, species=["robin", "wren", "crane", "wren", "wren", "wren"], audio_hash=hashes)
    audit.loc[[0, 2], ["verdict", "problems"]] = ["reject", "conflicting_duplicate"]
    page = page_of(audit, tmp_path)
    assert next(iter(page.rows)) == "conflicting" and list(page.rows)[1] == "repeated"
    assert page.rows["conflicting"][1:] == [
        ["1", "r00002", "crane", "reject", "conflicting_duplicate"],
        ["r00000", "robin", "reject", "conflicting_duplicate"],
    ]
    assert page.rows["repeated"][1:] == [["1", "r00003", "wren", "ok", ""], ["r00004", "wren", "ok", ""]]
    assert "2 recordings in 1 group." in page.said["conflicting"]
    assert "The audio of 1 recording is not known" in page.said["conflicting"]
    assert "None found" not in page.said["conflicting"]


def test_unknown_audio_is_no_duplicate(tmp_path):
    page = page_of(audit_of(3, species=["robin", "wren", "wren"], audio_hash=[None, np.nan, ""]), tmp_path)
    for section in ("conflicting", "repeated"):
        assert "None found. The audio of 3 recordings is not known" in page.said[section]
        assert page.rows[section] == []
    assert "None found." in page.said["problems"] and "worst" not in page.rows


def test_a_large_group_is_cut_and_names_every_species(tmp_path):
    species = ["wren"] * 30 + ["zebra finch"]
    page = page_of(audit_of(31, species=species, audio_hash="silence"), tmp_path)
    assert len(page.rows["conflicting"]) == 1 + 10 + 1
    assert {"wren", "zebra finch"} <= {cell for row in page.rows["conflicting"] for cell in row}
    assert page.rows["conflicting"][-1] == ["and 21 more"]


def test_the_largest_fifty_groups_of_one_label_are_shown(tmp_path):
    hashes = [f"pair{i // 2}" for i in range(120)] + ["three"] * 3
    page = page_of(audit_of(123, audio_hash=hashes), tmp_path)
    assert page.rows["repeated"][1][1] == "r00120"
    assert len(page.rows["repeated"]) == 1 + 3 + 49 * 2
    assert "123 recordings in 61 groups: 62 more than" in page.said["repeated"]
    assert "11 more groups are not shown" in page.said["repeated"]


def test_counts(tmp_path):
    audit = audit_of(
        2000,
        species=["wren"] * 1800 + ["robin"] * 150 + ["crane"] * 20 + ["dodo"] * 30,
        duration_s=[3.6] * 1999 + [0.0],
        verdict=["ok"] * 1900 + ["warn"] * 60 + ["reject"] * 40,
        problems=["quiet"] + [""] * 1899 + ["quiet clipped"] * 60 + ["empty"] * 40,
    )
    page = page_of(audit, tmp_path)
    head = " ".join(page.said[""].split())
    assert "recordings 2,000 species 4 1 without a kept recording hours of sound 2 " in head
    assert "ok 1,900 95.0% warn 60 3.0% reject 40 2.0%" in head
    assert "imbalance 180 : 1 1,800 : 10 kept recordings" in head
    assert page.rows["problems"] == [
        ["problem", "recordings", "share", "ok", "warn", "reject"],
        ["quiet", "61", "3.0%", "1", "60", "0"],
        ["clipped", "60", "3.0%", "0", "60", "0"],
        ["empty", "40", "2.0%", "0", "0", "40"],
    ]
    assert page.rows["species"][1:] == [
        ["wren", "1,800", "0", "0", "1.80"],
        ["robin", "150", "50", "0", "0.15"],
        ["crane", "10", "10", "10", "0.02"],
        ["dodo", "0", "0", "30", "0.03"],
    ]
    assert "quiet: 20 of 61, worst first" in page.said["worst"]
    assert len(page.worst("quiet")) == 20


WORST_FIRST = {
    "clipped": {"clipped_share": [0.5, 0.9, np.nan, 0.2]},
    "dc": {"dc": [0.1, -0.4, np.nan, 0.05]},
    "header_lies": {"duration_s": [12.0, 3.0, 10.0, 11.0], "header_duration_s": [10.0, 10.0, np.nan, 10.0]},
    "low_rate": {"native_rate_hz": [8000, 4000, 0, 11_025]},
    "mostly_silent": {"silent_share": [0.8, 0.99, np.nan, 0.7]},
    "narrow_band": {"top_hz": [900.0, 300.0, np.nan, 2000.0]},
    "out_of_phase": {"mix_loss_db": [20.0, np.inf, np.nan, 12.0]},
    "quiet": {"peak": [1e-3, 1e-5, np.nan, 2e-3]},
    "silent": {"peak": [1e-6, 0.0, np.nan, 1e-5]},
    "too_short": {"duration_s": [0.1, 0.01, np.nan, 0.2]},
    "duplicate": {"audio_hash": ["b", "a", "", "c"]},
    "conflicting_duplicate": {"audio_hash": ["b", "a", "", "c"]},
    "several_labels": {"audio_hash": ["b", "a", "", "c"]},
}


@pytest.mark.parametrize("problem", WORST_FIRST)
def test_the_worst_come_first_and_the_unknown_last(tmp_path, problem):
    audit = audit_of(4, problems=problem, verdict="warn", **WORST_FIRST[problem])
    copies = audit_of(3, recording_id=["x", "y", "z"], audio_hash=["a", "a", "b"])
    page = page_of(pd.concat([audit, copies]), tmp_path)
    assert page.worst(problem) == ["r00001", "r00000", "r00003", "r00002"]
    assert page.rows["worst"][-1][3] == "unknown"


def test_a_problem_without_a_measurement_is_in_the_order_of_ids(tmp_path):
    audit = audit_of(3, recording_id=["c", "a", "b"], problems=["odd", "odd odd", "clipped odd"])
    page = page_of(audit, tmp_path)
    assert page.worst("odd") == ["a", "b", "c"]
    assert "odd: 3, in the order of their ids" in page.said["worst"]


@pytest.mark.parametrize("species", [["wren"], [f"s{i}" for i in range(1000)]], ids=["one", "thousand"])
def test_all_rejected(tmp_path, species):
    audit = audit_of(len(species), species=species, verdict="reject", problems="empty")
    page = page_of(audit, tmp_path)
    assert "imbalance none kept" in " ".join(page.said[""].split())
    assert "No recording is kept." in page.said["figures"]
    assert [row[1:4] for row in page.rows["species"][1:]] == [["0", "0", "1"]] * len(species)


def test_nothing_measured(tmp_path):
    audit = audit_of(3, verdict="reject", problems="undecodable clipped quiet", **dict.fromkeys(NUMBERS, np.nan))
    page = page_of(audit.assign(native_rate_hz=0, duration_s=0.0, reason=np.nan), tmp_path)
    for words in ("known length", "known sample rate", "known highest frequency"):
        assert f"No recording has a {words}." in page.said["figures"]
    assert page.worst("clipped") == ["r00000", "r00001", "r00002"]
    assert "nan" not in " ".join(page.said.values())


def test_no_recording(tmp_path):
    page = page_of(audit_of(0), tmp_path)
    assert "recordings 0 species 0 hours of sound 0" in " ".join(page.said[""].split())
    assert "There is no recording." in page.said["figures"]


def test_each_figure_has_a_text_of_its_own(tmp_path):
    page = page_of(
        audit_of(5, duration_s=[1.0, 2.0, 4.0, 8.0, 0.0], top_hz=[500.0, 1000.0, 2000.0, 3000.0, np.nan]), tmp_path
    )
    drawn = [attributes for tag, attributes in page.tags if tag == "svg"]
    labels = [str(attributes["aria-label"]) for attributes in drawn]
    assert len(set(labels)) == 4 and {attributes["role"] for attributes in drawn} == {"img"}
    assert labels[0].endswith("Kept: 5 of the most frequent species, 5 of the rarest one kept.")
    assert labels[1].endswith("Shortest 1 s, median 3 s, longest 8 s. Unknown for 1, which is not shown.")
    assert labels[2].endswith("1 sample rate.")
    assert labels[3].endswith("Lowest 0.5 kHz, median 1.5 kHz, highest 3 kHz. Unknown for 1, which is not shown.")


def test_figures_show_kept_and_rejected_in_colours_of_the_page(tmp_path):
    audit = audit_of(40, species=["wren", "robin"] * 20, verdict=["ok", "warn", "reject", "ok"] * 10)
    write_page(audit, "birds", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    for svg in re.findall("<svg.*?</svg>", text, flags=re.DOTALL):
        assert "var(--kept)" in svg and "var(--rejected)" in svg and "currentColor" in svg
        assert not re.findall("#(?!p|m|000000)[0-9a-f]{6}", svg)
    assert text.count("<svg") == 4


def test_nothing_is_loaded_and_no_name_is_given_twice(tmp_path):
    page = page_of(audit_of(30, species=["wren", "robin"] * 15, problems="clipped", verdict="warn"), tmp_path)
    links = [
        str(value)
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "srcset", "data", "action")
    ]
    names = [str(attributes["id"]) for _, attributes in page.tags if "id" in attributes]
    assert len(links) > 10 and {link[0] for link in links} == {"#"}
    assert {link[1:] for link in links} <= set(names)
    assert len(names) == len(set(names))
    text = (tmp_path / "page.html").read_text()
    assert "http" not in text and "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}


def test_equal_audits_give_equal_bytes_in_any_order(tmp_path):
    rng = np.random.default_rng(0)
    audit = audit_of(
        60,
        species=rng.choice(["wren", "robin", "crane"], 60),
        problems=rng.choice(["", "clipped", "quiet clipped"], 60),
        audio_hash=rng.choice(list("abcdefghijk"), 60),
        duration_s=rng.uniform(0, 9, 60),
    )
    before = audit.copy()
    for name, rows in {"a": audit, "b": audit, "c": audit.sample(frac=1, random_state=1)}.items():
        write_page(rows, "birds", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    pd.testing.assert_frame_equal(audit, before)
    write_page(audit.assign(duration_s=1.0), "birds", tmp_path / "d")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "d").read_bytes()


def test_the_page_replaces_the_old_one_whole(tmp_path, monkeypatch):
    target = tmp_path / "page.html"
    write_page(audit_of(1), "first", target)
    write_page(audit_of(1), "second", target)
    assert "second" in target.read_text() and "first" not in re.findall("<h1>.*</h1>", target.read_text())[0]
    assert list(tmp_path.iterdir()) == [target]

    def killed(*_: object) -> None:
        raise OSError("killed")

    monkeypatch.setattr("birdclf.files.os.replace", killed)
    with pytest.raises(OSError, match="killed"):
        write_page(audit_of(1), "third", target)
    assert "second" in target.read_text() and "third" not in target.read_text()


def test_wrong_tables_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'maybe'"):
        write_page(audit_of(2, verdict=["ok", "maybe"]), "birds", tmp_path / "page.html")
    with pytest.raises(KeyError, match="top_hz"):
        write_page(audit_of(2).drop(columns="top_hz"), "birds", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_large_collection_is_written_fast_and_small(tmp_path):
    rng = np.random.default_rng(0)
    rows = 20_000
    problems = np.array(["", "clipped", "quiet narrow_band", "too_short", "header_lies dc"])
    audit = audit_of(
        rows,
        species=[f"Genus species number {i}" for i in rng.zipf(1.3, rows) % 1000],
        problems=rng.choice(problems, rows),
        verdict=rng.choice(["ok", "warn", "reject"], rows),
        reason="a sentence that is as long as a reason of several parts; it is repeated in every row of the table",
        duration_s=rng.lognormal(2, 1, rows),
        native_rate_hz=rng.integers(8000, 96_000, rows),
        audio_hash=rng.integers(0, 4000, rows).astype(str),
    )
    began = time.process_time()  # not the clock's: other tests run beside this one
    page = page_of(audit, tmp_path)
    assert time.process_time() - began < 5
    assert (tmp_path / "page.html").stat().st_size < 1_500_000
    assert len(page.rows["species"]) > 900
