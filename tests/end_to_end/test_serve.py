"""``birdclf serve`` as a user has it: the real command, a real browser, and a training on what was corrected."""

import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import soundfile
from axe_playwright_python.sync_playwright import Axe
from command_fixtures import VIEWS
from playwright.sync_api import Browser, Page, Route, expect
from tiny_runs import REPO, TINY, Command, on_folder, sing

RECORDINGS = REPO.parent / "shared" / "recordings"
SPECIES = ["Alauda arvensis", "Bubo bubo", "Corvus corax", "Turdus merula"]


class Server(NamedTuple):
    """A server in a process of its own."""

    url: str
    folder: Path
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def trained(birdclf: Command, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run."""
    run = tmp_path_factory.mktemp("trained") / "run"
    done = birdclf(*on_folder(recordings, run), cwd=run.parent)
    assert done.status == 0, done.err
    return run


def started(run: Path, folder: Path, *more: str) -> Server:
    words = [sys.executable, "-m", "birdclf", "serve", str(run), "--port", "0", "--folder", str(folder), *more]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"open (http://\S+) in a browser", line):
            return Server(found[1], folder, process)
    raise AssertionError(process.communicate()[1])


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of a tiny run, for all tests here."""
    served = started(trained, tmp_path_factory.mktemp("served") / "kept", "--max-upload-mb", "20", "--device", "cpu")
    yield served
    served.process.kill()
    served.process.communicate()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page, in which an error of its script, or of its policy, fails the test."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Security" in said.text else None)
    page.on(
        "request",
        lambda one: wrong.append(one.url) if urlsplit(one.url).netloc != urlsplit(server.url).netloc else None,
    )
    page.goto(server.url)
    expect(page.locator("#classes option")).to_have_count(len(SPECIES))
    page.fill("#min_confidence", "0.05")
    page.fill("#hop", "1")
    yield page
    page.close()
    assert not wrong


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real recording where there are any, else one of three species after each other."""
    real = sorted(RECORDINGS.glob("**/*.wav"), key=lambda file: file.stat().st_size)
    if real:
        return real[-1]
    rng, file = np.random.default_rng(3), tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(file, np.concatenate([sing(kind, rng, 6, 22_050) for kind in range(3)]), 22_050)
    return file


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def drop(page: Page, content: bytes, name: str) -> None:
    """Drop a file onto the page."""
    page.evaluate(
        """([content, name]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([new Uint8Array(content)], name));
          const dropped = { dataTransfer: carried, bubbles: true, cancelable: true };
          document.body.dispatchEvent(new DragEvent("drop", dropped));
        }""",
        [list(content), name],
    )


def until(page: Page, expression: str) -> None:
    """Wait until an expression holds; ``wait_for_function`` would evaluate a text, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {expression}")


def seconds(page: Page) -> float:
    return float(page.evaluate("document.getElementById('audio').currentTime"))


def test_a_recording_is_seen_heard_and_corrected(page: Page, server: Server, song: Path, tmp_path: Path):
    page.set_input_files("#files", song)
    expect(page.locator("#status")).to_contain_text("detection", timeout=60_000)
    expect(page.locator("#name")).to_have_text(song.name)
    rows = page.locator("#rows tr")
    count = rows.count()
    assert count >= 2 and page.locator(".bar").count() == page.locator(".band").count() == count
    until(page, "document.getElementById('picture').naturalWidth > 100")
    duration_s = soundfile.info(song).duration
    bar, view = page.locator(".bar").nth(count - 1), page.locator("#view")
    start_s = page.evaluate("known.get(current).rows.at(-1).start_s")
    box, frame = bar.bounding_box(), view.bounding_box()
    assert box and frame and abs((box["x"] - frame["x"]) / frame["width"] - start_s / duration_s) < 0.01

    rows.nth(count - 1).get_by_role("button", name="Play").click()
    until(page, f"document.getElementById('audio').currentTime > {start_s + 0.2}")
    expect(rows.nth(count - 1).get_by_role("button", name="Pause")).to_be_visible()
    expect(bar).to_have_class(re.compile(r"\bon\b"))
    rows.nth(count - 1).get_by_role("button", name="Pause").click()
    assert page.evaluate("document.getElementById('audio').paused")
    view.click(position={"x": frame["width"] / 2, "y": 50})
    until(page, "!document.getElementById('audio').paused")
    assert seconds(page) >= duration_s / 2 - 0.1

    expect(page.locator("#save")).to_be_disabled()
    first, second = rows.nth(0), rows.nth(1)
    predicted = first.locator(".species").inner_text()
    first.get_by_role("button", name="Confirm").click()
    second.get_by_role("textbox").or_(second.get_by_role("combobox")).fill("Parus <b>major</b>")
    second.get_by_role("button", name="Confirm").focus()
    expect(second.locator(".said")).to_have_text("corrected")
    expect(page.locator(".bar").nth(1)).to_have_text("Parus <b>major</b>")
    expect(page.locator("#heard")).to_contain_text("not saved")
    page.locator("#save").click()
    expect(page.locator("#saved")).to_contain_text("Saved: 2 labelled, 0 without a bird")
    kept = next((server.folder / "recordings").glob(f"*_{song.stem}*")).name
    labels = [row for row in table(server.folder / "corrections.csv") if row["path"] == f"recordings/{kept}"]
    assert [row["species"] for row in labels] == [predicted, "Parus <b>major</b>"]
    assert [row["verdict"] for row in labels] == ["confirmed", "corrected"]

    first.get_by_role("button", name="No bird").click()
    page.locator("#save").click()
    expect(page.locator("#saved")).to_contain_text("Saved: 1 labelled, 1 without a bird")
    assert [row["predicted"] for row in table(server.folder / "no_bird.csv")] == [predicted]

    for kind in ("csv", "raven", "audacity"):
        with page.expect_download() as waited:
            page.locator(f"#{kind}").click()
        waited.value.save_as(tmp_path / kind)
    downloaded = table(tmp_path / "csv")
    assert len(downloaded) == count - 1 and downloaded[0]["species"] == "Parus <b>major</b>"
    assert downloaded[0]["path"].endswith(song.suffix) and "/" not in downloaded[0]["path"]
    assert len((tmp_path / "audacity").read_text().splitlines()) == count - 1
    assert len((tmp_path / "raven").read_text().splitlines()) == count

    page.reload()
    expect(page.locator("#rows tr").nth(1).locator(".said")).to_have_text("corrected")
    assert page.locator("#rows b").count() == 0


@pytest.mark.slow
def test_several_recordings_one_after_the_other(page: Page, recordings: Path):
    files = sorted((recordings / "Bubo bubo").glob("*.wav"))[:3]
    page.set_input_files("#files", files)
    for file in files:
        expect(page.locator("#heard").get_by_role("button", name=file.name).first).to_be_visible(timeout=60_000)
    page.locator("#heard").get_by_role("button", name=files[1].name).first.click()
    expect(page.locator("#name")).to_have_text(files[1].name)
    page.fill("#min_confidence", "1")
    page.locator("#again").click()
    expect(page.locator("#count")).to_contain_text("Nothing was detected", timeout=60_000)


def test_a_name_with_html_in_it_is_text(page: Page, song: Path, server: Server):
    name = "<img src=x onerror=document.title='hacked'>.wav"
    content = np.random.default_rng(1).integers(-9000, 9000, 16_000, dtype=np.int16)
    soundfile.write(server.folder.parent / "noise.wav", content, 16_000)
    drop(page, (server.folder.parent / "noise.wav").read_bytes(), name)
    expect(page.locator("#name")).to_have_text(name, timeout=60_000)
    expect(page.locator("#heard")).to_contain_text(name)
    expect(page.locator("#status")).to_contain_text(name)
    assert page.title() == "Birds in recordings" and page.locator("img").count() == 1


def test_what_is_no_recording_is_reported_on_the_page(page: Page):
    drop(page, b"Dear diary, today I heard a wren.\n", "diary.txt")
    expect(page.locator("#problem")).to_have_text(re.compile("^diary.txt: The file cannot be decoded"))
    drop(page, b"", "empty.wav")
    expect(page.locator("#problem")).to_contain_text("empty.wav: The file is empty")
    page.evaluate("begun.max_bytes = 10")
    drop(page, b"x" * 11, "large.wav")
    expect(page.locator("#problem")).to_have_text(re.compile("^large.wav: The file is larger than 20 MB"))
    page.fill("#top_k", "99")
    drop(page, b"x", "song.wav")
    expect(page.locator("#problem")).to_contain_text("must be a number from 1 to 20")


def test_zoom_and_keyboard(page: Page, song: Path):
    page.set_input_files("#files", song)
    expect(page.locator("#status")).to_contain_text("detection", timeout=60_000)
    page.locator("#in").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    wide = page.evaluate(
        "document.getElementById('scroll').scrollWidth / document.getElementById('scroll').clientWidth"
    )
    assert abs(wide - 4) < 0.1
    page.locator("#rows .play").first.focus()
    page.keyboard.press("Space")
    until(page, "!document.getElementById('audio').paused")


def test_a_file_that_is_dropped_before_the_settings_have_come_waits_for_them(browser, server: Server, song: Path):
    page = browser.new_page()
    asked: list[Route] = []
    page.route("**/session", lambda route: asked.append(route))
    page.goto(server.url)
    page.set_input_files("#files", song)
    page.wait_for_timeout(100)
    (route,) = asked
    route.continue_()
    expect(page.locator("#status")).to_contain_text("detection", timeout=60_000)
    expect(page.locator("#problem")).to_be_empty()
    page.close()


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_axe_finds_nothing(browser: Browser, server: Server, song: Path, scheme: str, width: int):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(server.url)
    page.set_input_files("#files", song)
    expect(page.locator("#status")).to_contain_text("detection", timeout=60_000)
    rows = page.locator("#rows tr")
    rows.nth(0).get_by_role("button", name="Confirm").click()
    if rows.count() > 1:
        rows.nth(1).get_by_role("button", name="No bird").click()
    rows.nth(0).locator(".play").click()
    found = Axe().run(page)
    print(found.generate_report())
    assert [violation["id"] for violation in found.response["violations"]] == []
    page.close()


@pytest.mark.slow
def test_corrections_are_trained_on(birdclf: Command, server: Server, recordings: Path, tmp_path: Path):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for file in sorted(recordings.glob("*/0[0-4].wav")):
            words = {"name": f"{file.parent.name} {file.name}", "top_k": "1", "min_confidence": "0.01"}
            told = client.post("/recordings", params=words, content=file.read_bytes()).json()
            while told["state"] != "done":
                time.sleep(0.05)
                told = client.get(f"/recordings/{told['id']}").json()
            rows = [{"row": n, "verdict": "corrected", "species": file.parent.name} for n in range(len(told["rows"]))]
            answer = client.post(
                f"/recordings/{told['id']}/corrections", json={"version": told["version"], "rows": rows}
            )
            assert answer.status_code == 200 and answer.json()["saved"]["labels"] == len(rows) > 0
    words = ["train", "data=manifest", f"data.path={server.folder / 'corrections.csv'}", *TINY]
    done = birdclf(*words, f"data.species=[{','.join(SPECIES)}]", f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.status == 0, done.err
    assert (tmp_path / "run" / "metrics.json").is_file()


@pytest.mark.slow
def test_ctrl_c_ends_it_without_a_trace(trained: Path, tmp_path: Path, song: Path):
    served = started(trained, tmp_path / "kept", "--host", "0.0.0.0")
    port = urlsplit(served.url).port
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:  # keeps its connection open
        assert client.post("/recordings", params={"name": "a.wav"}, content=song.read_bytes()).status_code == 201
        begun = time.monotonic()
        served.process.send_signal(signal.SIGINT)
        out, err = served.process.communicate(timeout=30)
    assert served.process.returncode == 130 and time.monotonic() - begun < 20
    assert err.splitlines() == [err.strip()] and "anybody in the network can open the page" in err
    assert sorted(path.name for path in served.folder.iterdir()) == ["recordings", "serve.json", "serve.lock"]


@pytest.mark.slow
def test_what_cannot_be_served(birdclf: Command, trained: Path, tmp_path: Path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        mistake = birdclf("serve", trained, "--port", taken, "--folder", tmp_path / "kept", cwd=tmp_path).mistake
    assert mistake == f"--port {taken} is taken by another program. Use another, or 0 for any free."
    assert not (tmp_path / "kept").exists()
    for words, said in (
        (["--port", "99999"], "--port 99999: a number from 0 to 65535"),
        (["--max-minutes", "0"], "--max-minutes 0 lets nothing through"),
        (["--max-upload-mb", "nan"], "--max-upload-mb nan lets nothing through"),
        (["--host", "203.0.113.7", "--port", "0"], "203.0.113.7 is no address of this machine"),
        (["--host", "no host at all", "--port", "0"], "--host no host at all is no address"),
        (["--folder", str(tmp_path)], "holds no uploads of birdclf serve"),
        (["--device", "tpu9"], "--device tpu9 is not there"),
    ):
        (tmp_path / "mine.txt").write_text("mine")
        assert said in birdclf("serve", trained, *words, cwd=tmp_path).mistake
    assert "no_run" in birdclf("serve", tmp_path / "no_run", cwd=tmp_path).mistake
    monkeypatch.setattr("birdclf.commands.serve.NEEDED", ("no_such_package",))
    assert "pip install 'birdclf[serve]'" in birdclf("serve", trained, cwd=tmp_path).mistake
