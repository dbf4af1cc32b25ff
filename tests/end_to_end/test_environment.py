"""A training ends well in any environment that a shell, a notebook, a container or cron gives it, and calls nobody."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import TINY, Outcome, metrics_of, on_folder

WATCHED = tuple(word for word in TINY if "progress" not in word)  # the bar prints, too
NOWHERE = "/dev/null/below"  # nothing can be made there, whoever asks
HOOK = """
import os, sys
OUT = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
def note(event, given):
    if event in OUT and not (event == "socket.connect" and isinstance(given[1], (str, bytes))):  # a file, not a host
        tell(f"{event} {given}")
    elif event == "import" and given[0] == "onnxruntime" and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        tell("onnxruntime, which reports")
def tell(what):
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(f"{what}: {sys.argv}\\n")
sys.addaudithook(note)
"""


def shell(*words: object, cwd: Path, streams: str = "", before: str = ":", **variables: str | None) -> Outcome:
    """Run ``birdclf WORDS`` as a shell does that has redirected its streams, without what pytest has set."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") and name != "COLUMNS"}
    env |= {name: value for name, value in variables.items() if value is not None}
    for name in (name for name, value in variables.items() if value is None):
        env.pop(name, None)
    line = ["sh", "-c", f'{before}; exec "$0" -m birdclf "$@" {streams}', sys.executable, *map(str, words)]
    done = subprocess.run(line, cwd=cwd, env=env, capture_output=True, timeout=300)
    return Outcome(done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1"))


@pytest.fixture(scope="module")
def usual(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a usual environment."""
    folder = tmp_path_factory.mktemp("usual")
    done = shell(*on_folder(recordings, "run"), *WATCHED, cwd=folder)
    assert done.status == 0, done.err
    return folder / "run"


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a terminal in ISO-8859-1."""
    folder, name = tmp_path_factory.mktemp("locales"), "en_US.ISO-8859-1"
    if shutil.which("localedef") is None:
        return {"PYTHONIOENCODING": "latin-1"}
    made = subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", folder / name], capture_output=True)
    return {"LOCPATH": str(folder), "LC_ALL": name} if made.returncode == 0 else {"PYTHONIOENCODING": "latin-1"}


ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "C": {"LC_ALL": "C"},
    "ASCII": {"PYTHONIOENCODING": "ascii:strict"},
    "ISO-8859-1": {},  # its variables are the fixture's
    "closed output": {"streams": ">&-"},
    "full output": {"streams": ">/dev/full"},
    "both full": {"streams": ">/dev/full 2>&1"},
    "all closed": {"streams": "<&- >&- 2>&-"},
    "no home": {"HOME": None, "XDG_CACHE_HOME": None, "USER": None, "LOGNAME": None},
    "a home that is not there": {
        "HOME": NOWHERE,
        "TMPDIR": NOWHERE,
        "MPLCONFIGDIR": NOWHERE,
        "XDG_CACHE_HOME": NOWHERE,
    },
    "umask": {"before": "umask 077"},
    "notebook": {"MPLBACKEND": "module://matplotlib_inline_that_is_not_here.backend_inline"},
    "another training": {"LOCAL_RANK": "1", "SLURM_PROCID": "abc", "PL_TRAINER_FAST_DEV_RUN": "True", "RANK": "x"},
    "a strange terminal": {"TERM": "dumb", "COLUMNS": "abc", "FORCE_COLOR": "1", "OMP_NUM_THREADS": "abc"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_training_ends_well_and_whole(name, usual, latin_1, recordings, tmp_path):
    variables = latin_1 if name == "ISO-8859-1" else ENVIRONMENTS[name]
    done = shell(*on_folder(recordings, "run"), *WATCHED, cwd=tmp_path, **variables)
    assert done.status == 0, done.err
    assert "Traceback" not in done.err and "Logging error" not in done.err
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {path.name for path in usual.iterdir()}
    assert (run / "done.json").is_file() and list((run / "tensorboard").iterdir())
    assert metrics_of(run)["classes"] == metrics_of(usual)["classes"]
    if name == "umask":
        assert stat.S_IMODE((run / "metrics.json").stat().st_mode) == 0o600
    if name in ("closed output", "full output"):
        assert done.err.count("\n") == 1 and done.err.startswith("birdclf: standard output did not take all")


@pytest.mark.slow
@pytest.mark.parametrize("streams", [">/dev/full", ">&- 2>&-"])
def test_a_multirun_ends_well_with_its_table(streams, recordings, tmp_path):
    words = ["-m", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep"]
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    done = shell(*on_folder(recordings, "run"), *WATCHED, *words, cwd=tmp_path, streams=streams)
    assert done.status == 0 and "Traceback" not in done.err and "Logging error" not in done.err, done.err
    assert (tmp_path / "sweep" / "sweep.csv").read_text().count("finished") == 2


@pytest.mark.slow
def test_a_latin_1_terminal_gets_tables_and_results_with_what_it_can_show(usual, latin_1, recordings, tmp_path):
    rows = [
        f"{path},{'łabędź' if path.parent.name == 'Bubo bubo' else path.parent.name}"
        for path in recordings.rglob("*.wav")
    ]
    (tmp_path / "m.csv").write_text("\n".join(["path,species", *rows]), "utf-8")
    words = [
        "train",
        "data=manifest",
        "data.path=m.csv",
        "data.allow_outside=true",
        *WATCHED,
        "hydra.sweep.dir=sweep",
        "-m",
        "seed=1,2",
    ]
    done = shell(*words, cwd=tmp_path, **latin_1)
    assert done.status == 0, done.err
    assert "Traceback" not in done.err + done.out and "Logging error" not in done.err
    first, second = sorted((tmp_path / "sweep").glob("[01]_*"))
    sound = next(recordings.rglob("*.wav"))
    done = shell("predict", first, sound, "--min-confidence", "0", "--top-k", "4", cwd=tmp_path, **latin_1)
    assert done.status == 0 and r"\u0142ab\u0119d\u017a" in done.out, done.err
    done = shell("evaluate", first, cwd=tmp_path, **latin_1)
    assert done.status == 0 and "equal to metrics.json" in done.out, done.err
    done = shell("predict", second, sound, "--min-confidence", "0", "--out", "found", cwd=tmp_path, **latin_1)
    assert done.status == 0 and "łabędź" in (tmp_path / "found" / "detections.csv").read_text("utf-8"), done.err


@pytest.mark.slow
def test_results_on_the_screen_are_refused_where_it_takes_none(usual, recordings, tmp_path):
    sound = next(recordings.rglob("*.wav"))
    for streams, why in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        done = shell("predict", usual, sound, cwd=tmp_path, streams=streams)
        assert done.mistake.startswith(f"standard output cannot be written to: {why}.")
    done = shell("predict", usual, sound, "--out", "found", cwd=tmp_path, streams=">/dev/full")
    assert done.status == 0 and (tmp_path / "found" / "summary.csv").is_file()
    done = shell("evaluate", usual, "--window", "all", "--out", "judged", cwd=tmp_path, streams=">/dev/full")
    assert done.status == 0 and (tmp_path / "judged" / "metrics.json").is_file(), done.err


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_a_text_that_is_all_that_was_asked_for_is_missed(word, tmp_path):
    done = shell(word, cwd=tmp_path, streams=">/dev/full")
    assert done.mistake == "standard output did not take all that was printed: No space left on device"
    assert shell(word, cwd=tmp_path).err == ""


@pytest.mark.parametrize("words", [("train",), ("report", "run", "--out", "there")])
def test_a_current_folder_that_is_gone_is_reported_in_a_sentence(words, tmp_path):
    done = shell(*words, cwd=tmp_path, before='mkdir gone; cd gone; rmdir "$PWD"')
    assert done.mistake == "the current folder is gone (No such file or directory). Change to another one: cd DIR"


def test_an_unknown_home_is_reported_in_a_sentence(birdclf, tmp_path):
    done = birdclf("evaluate", "~nobody-of-this-name/run", cwd=tmp_path)
    assert done.mistake == "a path begins with ~, but the home folder is unknown. Write the path in full."


@pytest.fixture
def calls(tmp_path: Path) -> dict[str, str | None]:
    """Variables by which every process notes the connections that it opens; the file is ``calls``."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "sitecustomize.py").write_text(HOOK)
    return {
        "PYTHONPATH": str(tmp_path / "hooks"),
        "CALLS": str(tmp_path / "calls"),
        "ORT_DISABLE_TELEMETRY": None,
        "CI": None,
    }


def test_a_connection_is_noted(calls, tmp_path):
    code = "import socket; socket.socket().connect_ex(('127.0.0.1', 9)); socket.socket(socket.AF_UNIX).connect_ex('x')"
    env = {**os.environ, "PYTHONPATH": str(calls["PYTHONPATH"]), "CALLS": str(calls["CALLS"])}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert "127.0.0.1" in (tmp_path / "calls").read_text()


@pytest.mark.slow
def test_no_command_opens_a_connection(calls, recordings, tmp_path):
    pytest.importorskip("onnxruntime")
    sound = str(next(recordings.rglob("*.wav")))
    commands = [
        ["prepare", "data=folder", f"data.root={recordings}", "hydra.run.dir=prepared", "store.workers=2"],
        [*on_folder(recordings, "run"), *WATCHED],
        ["evaluate", "run"],
        ["predict", "run", sound, "--out", "found"],
        ["export", "run", "--out", "m.onnx"],
        ["predict", "m.onnx", sound],
        ["suggest", "run", sound, "--n", "2", "--out", "todo"],
        ["report", "run", "--out", "report"],
        ["synthesize", "aviary", "--scale", "0.01", "--num-species", "2"],
    ]
    for words in commands:
        done = shell(*words, cwd=tmp_path, **calls)
        assert done.status == 0, (words, done.err)
        assert not (tmp_path / "calls").exists(), (tmp_path / "calls").read_text()
    code = f"import birdclf; print(len(birdclf.load('m.onnx').predict({sound!r})))"
    env = {name: value for name, value in {**os.environ, **calls}.items() if value is not None}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True, capture_output=True)
    assert not (tmp_path / "calls").exists(), (tmp_path / "calls").read_text()
    _serve("run", tmp_path, env)
    own = "socket.getaddrinfo ('127.0.0.1', 0, "  # where it listens
    assert all(line.startswith(own) for line in (tmp_path / "calls").read_text().splitlines())


def _serve(run: str, cwd: Path, env: dict[str, str]) -> None:
    """Serve until the page is there to open, then stop."""
    words = [sys.executable, "-u", "-m", "birdclf", "serve", run, "--port", "0"]
    server = subprocess.Popen(words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    said = []
    try:
        for line in server.stdout:
            said.append(line)
            if line.startswith("open "):
                break
        else:
            pytest.fail("".join(said))
    finally:
        server.terminate()
        server.communicate(timeout=60)
