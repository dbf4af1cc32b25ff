"""The report in a real browser: sorting, filtering, a sound that plays, and no call to a network."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from report.made_up_runs import AVIARY, name_recordings_of_the_aviary, write_sweep
from tiny_runs import Command, on_folder

from birdclf.report.report import report

PLAYED = """async sound => {
    sound.muted = true;
    await sound.play();
    await new Promise(moved => sound.addEventListener("timeupdate", moved));
    return sound.duration;
}"""


@pytest.mark.slow
def test_the_page_works_in_a_browser(browser: Browser, tmp_path: Path):
    write_sweep(tmp_path / "in", seeds=(1,), data=AVIARY, evaluation={"draws": 100})
    name_recordings_of_the_aviary(tmp_path / "in")
    file = report([tmp_path / "in"], tmp_path / "out").folder / "report.html"
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    asked, broken = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: broken.append(error))
    page.goto(file.as_uri())
    table = page.locator("#table table").first  # the second has the same configurations with intervals
    names = table.locator("tbody tr:visible th")
    head = table.get_by_role("columnheader", name="test accuracy", exact=True)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending" and names.first.inner_text().startswith("audio_cnn_v2")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending" and names.first.inner_text().startswith("audio_cnn ")
    page.locator("#table").get_by_role("searchbox").first.fill("FOCAL v2")
    assert names.all_inner_texts() == ["audio_cnn_v2 focal"]
    assert page.locator("#table output").first.inner_text() == "1 of 4 rows"
    assert page.locator("audio").first.evaluate(PLAYED) > 0.2
    assert not broken and [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    page.close()


def test_the_command_reports_on_a_real_run_and_marks_the_decisive_times(
    birdclf: Command, recordings: Path, tmp_path: Path
):
    done = birdclf(*on_folder(recordings, "run"), cwd=tmp_path)
    assert done.status == 0, done.err
    done = birdclf("report", "run", "--out", "told", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "report on 1 configuration(s): told/report.html" in done.out
    assert sorted(path.name for path in (tmp_path / "told").iterdir()) == ["comparison.csv", "report.html", "report.md"]
    text = (tmp_path / "told" / "report.html").read_text()
    assert "(Grad-CAM)" in text and "data:audio/wav" in text and "Reliability of" in text
    assert "accuracy above 0.40" in (tmp_path / "told" / "report.md").read_text()
    again = birdclf("report", "run", "--out", "told", cwd=tmp_path)
    assert again.status == 1 and "nothing is overwritten" in again.err
    lost = birdclf("report", "nowhere", "--out", "other", cwd=tmp_path)
    assert lost.status == 1 and "nowhere is not a folder" in lost.err and "Traceback" not in lost.err
