"""The pages pass axe, in light and dark mode, on a desk and on a phone."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from audit.made_up_audit import audit_of
from axe_playwright_python.sync_playwright import Axe
from command_fixtures import SCHEMES, VIEWS, WIDTHS
from detection.made_up import RATE_HZ, Pitches, tones
from playwright.sync_api import Browser, Page
from report.made_up_runs import AVIARY, CRITERIA, REFERENCE, name_recordings_of_the_aviary, write_sweep

from birdclf.audit.page import write_page
from birdclf.detection.detections import DetectionSettings
from birdclf.detection.predict import Embedded, predict_to_folder
from birdclf.detection.stream import StreamSettings
from birdclf.labelling.search import search
from birdclf.labelling.suggest import SuggestSettings, suggest
from birdclf.report.report import report


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report and an audit with something in every section, and clips to label."""
    folder = tmp_path_factory.mktemp("pages")
    more = {"data": AVIARY, "criteria": CRITERIA, "reference": REFERENCE, "evaluation": {"draws": 100}}
    write_sweep(folder / "in", seeds=(1, 2), clips=60, **more)
    name_recordings_of_the_aviary(folder / "in")
    (folder / "in" / "3_job" / "done.json").unlink()  # left out, which has a section of its own
    told = report([folder / "in"], folder / "out").folder
    rng, n = np.random.default_rng(0), 90
    audit = audit_of(
        n,
        species=rng.choice(["wren", "robin", "crane"], n),
        problems=rng.choice(["", "clipped", "quiet narrow_band", "too_short"], n),
        verdict=rng.choice(["ok", "warn", "reject"], n),
        reason="a sentence that is as long as a reason of several parts; it stands in every row of the table",
        duration_s=rng.lognormal(2, 1, n),
        native_rate_hz=rng.choice([16_000, 44_100], n),
        audio_hash=[f"h{i // 3}" if i < 30 else "" for i in range(n)],
    )
    audit.loc[30:45, ["audio_hash", "species"]] = ["same", "wren"]
    write_page(audit, "birds", folder / "audit.html")
    field = folder / "field"
    field.mkdir()
    for n, hz in enumerate((500, 1_250, 2_750)):
        soundfile.write(field / f"a {n * 'long ' * 9}name.wav", tones(hz, 500, 1_250), RATE_HZ)
    suggest(Pitches(), [str(field)], [], folder / "to_label", StreamSettings(1.0), SuggestSettings(n=7))
    sounds, embedded = sorted(map(str, field.iterdir())), folder / "embedded"
    how = StreamSettings(1.0, embeddings=True)
    predict_to_folder(Pitches(), sounds, (), embedded, how, DetectionSettings(), ["csv"])
    search(Embedded.read(embedded), Pitches(), sounds[-1], folder / "like", 5)
    return {
        "report": told / "report.html",
        "audit": folder / "audit.html",
        "labels": folder / "to_label" / "index.html",
        "search": folder / "like" / "index.html",
    }


def opened(browser: Browser, file: Path, scheme: str, width: int) -> Page:
    """Return a page with everything unfolded."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(file.as_uri())
    page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    return page


def violations(page: Page) -> list[str]:
    """Return the rules of axe that a page breaks, after printing where and how."""
    found = Axe().run(page)
    print(found.generate_report())
    return [violation["id"] for violation in found.response["violations"]]


PAGES = ("report", "audit", "labels", "search")
FAST = [("report", "light-desk"), ("report", "dark-phone"), ("audit", "light-desk"), ("labels", "light-desk")]
SEEN = [
    pytest.param(
        *(name, *view.values), id=f"{name}-{view.id}", marks=() if (name, view.id) in FAST else pytest.mark.slow
    )
    for name in PAGES
    for view in VIEWS
]


@pytest.mark.parametrize(("name", "scheme", "width"), SEEN)
def test_axe_finds_nothing(browser: Browser, pages: dict[str, Path], name: str, scheme: str, width: int):
    page = opened(browser, pages[name], scheme, width)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways"
    page.close()


BOXES = """plot => Array.from(plot.querySelectorAll("text, .label, [role=columnheader]"))
  .map(letters => letters.getBoundingClientRect()).filter(box => box.width && box.height)
  .map(box => [box.left, box.right, box.top, box.bottom])"""
"""Left, right, top and bottom of the labels of a dot plot, in px."""
SIZES = """drawing => Array.from(drawing.querySelectorAll("text, .label, [role=columnheader]")).map(letters =>
  parseFloat(getComputedStyle(letters).fontSize) * (letters.getCTM ? letters.getScreenCTM().a || 1 : 1))"""
"""Sizes of the letters of a drawing on the screen, in px."""


@pytest.mark.parametrize("width", [*WIDTHS.values(), 320])
def test_letters_of_drawings_are_large_and_apart(browser: Browser, pages: dict[str, Path], width: int):
    page = opened(browser, pages["report"], "light", width)
    drawings = page.query_selector_all(".dots, .drawing svg")
    assert len(drawings) == 4 + 7 + 1 + 2, "scores, differences, species and effects; curves, calibration, species"
    for drawing in drawings:
        sizes = drawing.evaluate(SIZES)
        assert sizes and min(sizes) >= 9, drawing.inner_text()
    for plot in page.query_selector_all(".dots"):
        inside, boxes = plot.bounding_box(), plot.evaluate(BOXES)
        assert len(boxes) > 10 and all(b[0] >= 0 and b[1] <= width for b in boxes), inside
        for i, (left, right, top, bottom) in enumerate(boxes):
            touching = [b for b in boxes[i + 1 :] if left < b[1] and b[0] < right and top < b[3] and b[2] < bottom]
            assert not touching, plot.inner_text()
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_what_is_planted(browser: Browser, pages: dict[str, Path], tmp_path: Path, scheme: str):
    spoilt = tmp_path / "spoilt.html"
    unnamed, faint = '<img src="data:image/png;base64,">', '<p style="color: light-dark(#111, #222)">Hard to read.</p>'
    spoilt.write_text(pages["audit"].read_text().replace("<section", unnamed + faint + "<section", 1))
    page = opened(browser, spoilt, scheme, WIDTHS["desk"])
    assert violations(page) == (["image-alt"] if scheme == "light" else ["color-contrast", "image-alt"])
    page.close()
