"""The report in a real browser: sorting, filtering, a sound that plays, and no call to a network."""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from report.made_up_runs import write_sweep
from tiny_runs import Command, on_folder

from birdclf.catalog.synthetic import synthetic_catalog
from birdclf.report.report import report

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

# Does what a person does, and writes what it sees into the page, which the browser then prints.
ACTS = """
const said = [], say = (name, value) => said.push(`${name}: ${value}`);
const table = document.querySelector("#table table"), first = () => table.tBodies[0].rows[0].cells[0].textContent;
const head = [...table.tHead.rows[0].cells].find(cell => cell.textContent === "test accuracy");
head.querySelector("button").click();
say("descending", `${head.getAttribute("aria-sort")} ${first()}`);
head.querySelector("button").click();
say("ascending", `${head.getAttribute("aria-sort")} ${first()}`);
const box = document.querySelector("#table input");
box.value = "FOCAL v2";
box.dispatchEvent(new Event("input"));
say("shown", [...table.tBodies[0].rows].filter(row => row.offsetHeight).map(row => row.cells[0].textContent));
say("counted", document.querySelector("#table output").textContent);
say("loaded", performance.getEntriesByType("resource").filter(entry => !entry.name.startsWith("data:")).length);
say("wide", document.documentElement.scrollWidth <= window.innerWidth);
const done = () => { document.body.textContent = `SAID ${said.join("; ")}; END`; };
const sound = document.querySelector("audio");
sound.muted = true;
sound.preload = "auto";
sound.addEventListener("error", () => { say("sound", "broken"); done(); });
sound.addEventListener("canplaythrough", () => { say("sound", sound.duration.toFixed(1)); done(); });
sound.load();
"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the PATH")
def test_the_page_works_in_a_browser(tmp_path):
    data = {"_target_": "birdclf.catalog.synthetic.synthetic_catalog", "scale": 0.02}
    write_sweep(tmp_path / "in", seeds=(1,), data=data, evaluation={"draws": 100})
    _name_recordings_of_the_aviary(tmp_path / "in")
    text = (report([tmp_path / "in"], tmp_path / "out").folder / "report.html").read_text()
    page = tmp_path / "acted.html"
    page.write_text(text.replace("</body>", f"<script>{ACTS}</script></body>"))
    said = dict(part.split(": ", 1) for part in _seen_by_a_browser(page).split("; "))
    assert said["descending"].startswith("descending audio_cnn_v2")
    assert said["ascending"].startswith("ascending audio_cnn ")
    assert said["shown"] == "audio_cnn_v2 focal" and said["counted"] == "1 of 4 rows"
    assert said["loaded"] == "0" and said["wide"] == "true"
    assert float(said["sound"]) > 0.2


def _name_recordings_of_the_aviary(sweep: Path) -> None:
    """Give the clips of made-up runs the names of recordings that the aviary can sing."""
    ids = synthetic_catalog(scale=0.02).table.recording_id
    for path in sweep.glob("*/predictions.parquet"):
        table = pd.read_parquet(path)
        named = [i % len(ids) for i in range(len(table))]
        table = table.assign(recording_id=ids.to_numpy()[named]).drop_duplicates(["split", "recording_id"])
        table.to_parquet(path)


def _seen_by_a_browser(page: Path) -> str:
    assert BROWSER
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--virtual-time-budget=10000"]
    words = [BROWSER, *options, f"--user-data-dir={page.parent / 'browser'}", "--dump-dom", page.as_uri()]
    out = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"SAID (.*); END", out)
    assert found, "the script did not come to its end"
    return found[1].replace("&gt;", ">")


def test_the_command_reports_on_a_real_run_and_says_which_moments_spoke(
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
