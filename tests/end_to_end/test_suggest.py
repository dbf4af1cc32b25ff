"""``birdclf suggest``: clips to label, labelled on their page, and trained on."""

import csv
import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from detection.made_up import write_run
from playwright.sync_api import Browser, Page
from tiny_runs import TINY, Command, Outcome, sing

CLASSES = ("Alauda arvensis", "Bubo bubo", "Corvus corax", 'the "odd", <b>one</b>')
NAMES = ("plain", "a, b", 'say "hi"', "<img src=x onerror=document.title='run'>", "line\nend", "鸟")
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with windows of 1 s, and 12 recordings in ``field``, some with names that a page may take amiss."""
    work = tmp_path_factory.mktemp("suggest")
    write_run(work / "run", classes=CLASSES)
    rng = np.random.default_rng(5)
    (work / "field").mkdir()
    for n in range(12):
        name = f"{n:02d} {NAMES[n % len(NAMES)]}.wav"
        sound = np.concatenate([sing(n % 4, rng, 1.0, RATE_HZ), np.zeros(2 * RATE_HZ), sing(n % 3, rng, 0.5, RATE_HZ)])
        soundfile.write(work / "field" / name.replace("/", ""), sound.astype(np.float32), RATE_HZ)
    return work


@pytest.fixture
def suggest(birdclf: Command, work: Path):
    def command(*words: object, run: object = "run") -> Outcome:
        return birdclf("suggest", run, *words, "--device", "cpu", cwd=work)

    return command


@pytest.fixture(scope="module")
def to_label(birdclf: Command, work: Path) -> Path:
    """The folder of 14 clips."""
    done = birdclf("suggest", "run", "field", "--n", 14, "--hop", 0.5, "--out", "to_label", cwd=work)
    assert done.status == 0, done.err
    assert done.out.splitlines()[0].startswith("14 clips of ") and "in 12 recordings" in done.out
    return work / "to_label"


@pytest.fixture
def page(browser: Browser, to_label: Path):
    """The page, from which nothing may be asked of a network."""
    context = browser.new_context(accept_downloads=True, offline=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((to_label / "index.html").as_uri())
    yield page
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked
    assert page.title() == "Clips to label"
    context.close()


def field_of(page: Page, number: int):
    return page.get_by_label(f"Species of clip {number}", exact=True)


def downloaded(page: Page, to: Path) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download labels.csv").click()
    assert download.value.suggested_filename == "labels.csv"
    download.value.save_as(to)
    with open(to, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rows_of(to_label: Path) -> list[dict[str, str]]:
    with open(to_label / "suggestions.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_page_shows_every_clip_and_plays_it(page: Page, to_label: Path):
    rows = rows_of(to_label)
    cards = page.locator("ol > li")
    assert cards.count() == len(rows) == 14
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    seconds = page.evaluate(
        "Promise.all([...document.querySelectorAll('audio')].map(audio => new Promise(done => {"
        " audio.preload = 'metadata'; audio.onloadedmetadata = () => done(audio.duration); audio.load(); })))"
    )
    expected = [float(row["end_s"]) - float(row["start_s"]) for row in rows]
    np.testing.assert_allclose(seconds, expected, atol=0.01)
    first = cards.first.inner_text()
    assert rows[0]["predicted"] in first and rows[0]["second_guess"] in first


def test_labels_that_are_downloaded_are_a_manifest_to_train_on(page: Page, to_label: Path, tmp_path: Path, birdclf):
    odd, own = CLASSES[3], 'Pica "pica", = new'
    for number in range(1, 13):  # two labels in all, so that each is in every split
        field_of(page, number).fill(f" {odd} " if number % 2 else own)
    assert "12 of 14 labelled" in page.locator("#bar").inner_text()
    labels = downloaded(page, tmp_path / "labels.csv")
    for found, row in zip(labels, rows_of(to_label)[:12], strict=True):
        expected = row | {"species": own if int(row["rank"]) % 2 == 0 else odd}
        assert list(found) == list(expected)
        for column, value in expected.items():  # a number may be written as 2 or 2.0
            number = column in ("start_s", "end_s", "confidence", "uncertainty", "rank")
            assert float(found[column]) == float(value) if number else found[column] == value
    done = birdclf(
        "train", "data=manifest", f"data.path={tmp_path / 'labels.csv'}", "data.allow_outside=true", *TINY,
        f"hydra.run.dir={tmp_path / 'run'}", "features.window_s=1", cwd=tmp_path,
    )  # fmt: skip
    assert done.status == 0, done.err
    split = pd.read_csv(tmp_path / "run" / "split.csv")
    assert len(split) == 12 and set(split.species) == {odd, own}


def test_a_guess_is_taken_with_a_click_and_kept_for_the_next_time(page: Page, to_label: Path, tmp_path: Path):
    rows = rows_of(to_label)
    page.get_by_role("button", name=f"Clip 2 is {rows[1]['second_guess']}").click()
    field_of(page, 5).fill("Pica pica")
    assert "A name that the model does not know" in page.locator("ol > li").nth(4).inner_text()
    assert "does not know" not in page.locator("ol > li").nth(1).inner_text()
    page.reload()
    assert field_of(page, 2).input_value() == rows[1]["second_guess"] and field_of(page, 5).input_value() == "Pica pica"
    labels = downloaded(page, tmp_path / "labels.csv")
    assert [(row["rank"], row["species"]) for row in labels] == [("2", rows[1]["second_guess"]), ("5", "Pica pica")]
    for number in (2, 5):
        field_of(page, number).fill(" ")
    assert page.get_by_role("button", name="Download labels.csv").is_disabled()


def test_all_are_given_where_there_are_no_more(suggest, work: Path, tmp_path: Path):
    done = suggest("field", "--n", 1_000, "--out", tmp_path / "out")
    found = len(rows_of(tmp_path / "out"))
    assert done.status == 0 and f"--n 1000 asks for more clips than there are: {found}" in done.err
    assert found == 24  # of 36 windows, 12 are silent


def test_bad_files_are_listed_and_the_rest_done(suggest, work: Path, tmp_path: Path):
    (tmp_path / "bad.wav").write_text("no sound")
    done = suggest("field", tmp_path, "--n", 3, "--out", tmp_path / "out")
    assert done.status == 0 and f"birdclf: {tmp_path / 'bad.wav'} cannot be decoded" in done.err
    assert "1 recordings could not be decoded" in done.out and len(rows_of(tmp_path / "out")) == 3
    alone = suggest(tmp_path / "bad.wav", "--out", tmp_path / "none")
    assert alone.status == 1 and "nothing but silence in 1 recordings" in alone.err.splitlines()[-1]
    assert not (tmp_path / "none").exists()


def test_a_list_and_species_that_occur(suggest, work: Path, tmp_path: Path, monkeypatch):
    names = sorted(path for path in (work / "field").iterdir() if "\n" not in path.name)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(map(str, names)).encode())))
    (tmp_path / "list.txt").write_text("bubo bubo\nCorvus corax\n")
    words = ("--n", 5, "--uncertainty", "margin", "--species-list", tmp_path / "list.txt", "--out", tmp_path / "out")
    assert suggest("-", *words).status == 0
    assert {row["predicted"] for row in rows_of(tmp_path / "out")} <= {"Bubo bubo", "Corvus corax"}


def test_a_folder_that_is_there_is_kept(suggest, to_label: Path):
    before = (to_label / "suggestions.csv").read_bytes()
    said = suggest("field", "--out", to_label).mistake
    assert "to_label exists already; nothing is overwritten. It may hold labels" in said
    assert (to_label / "suggestions.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["field", "--n", "0"], "--n 0"),
        (["field", "--pool", "-1"], "--pool -1"),
        (["field", "--hop", "0"], "--hop 0"),
        (["field", "--near-thresholds", "--uncertainty", "margin"], "takes the place of --uncertainty"),
        (["field", "--batch-size", "0"], "--batch-size 0"),
        (["gone.wav"], "gone.wav does not exist"),
        (["run"], "There is no sound file in run"),
        (["field", "--species-list", "gone.txt"], "gone.txt cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused(suggest, work: Path, tmp_path: Path, words, message):
    assert message in suggest(*words, "--out", tmp_path / "out").mistake
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_checkpoint(suggest, tmp_path: Path):
    assert "best.ckpt does not exist" in suggest("field", "--out", tmp_path / "out", run=tmp_path).mistake
