"""Of inherited variables, those that would stop a command or report its use are decided before a library reads them."""

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from birdclf.environment import NO_REPORTS, prepare_command, prepare_import

MODULES = [
    *("birdclf", "birdclf.cli", "birdclf.sweep.task"),
    pytest.param("birdclf.training.processes", marks=pytest.mark.slow),  # it imports Lightning, which takes seconds
]
NOTEBOOK = "module://matplotlib_inline_that_is_not_here.backend_inline"


@pytest.fixture(autouse=True)
def inherited(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A copy of the variables, which a test may change and the code too."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in NO_REPORTS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def python(code: str, **variables: str) -> str:
    """Return what a program prints in an environment that reports would go out from."""
    env = {name: value for name, value in os.environ.items() if name not in (*NO_REPORTS, "CI")} | variables
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_reports_are_off_unless_requested(inherited):
    inherited.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    inherited.setenv("DO_NOT_TRACK", "")
    prepare_import()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1" and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "0" and os.environ["DO_NOT_TRACK"] == "1"


@pytest.mark.parametrize("module", MODULES)
def test_they_are_off_before_onnx_runtime_is_imported(module):
    watch = "import os, sys; sys.addaudithook(lambda event, given: event == 'import' and given[0] == 'onnxruntime' and "
    watch += f"print('imported', os.environ.get('ORT_DISABLE_TELEMETRY'))); import {module}; import onnxruntime"
    assert set(python(watch).splitlines()) == {"imported 1"}


def test_a_command_draws_without_a_window_whatever_its_environment_says(inherited):
    for backend in (NOTEBOOK, "TkAgg", "nonsense"):
        inherited.setenv("MPLBACKEND", backend)
        prepare_command("train")
        assert os.environ["MPLBACKEND"] == "Agg"


def test_a_program_keeps_its_backend_where_it_works():
    code = "import birdclf, os, matplotlib; print(os.environ.get('MPLBACKEND'), matplotlib.get_backend())"
    assert python(code, MPLBACKEND="svg").split() == ["svg", "svg"]
    assert python(code, MPLBACKEND=NOTEBOOK).split() == ["Agg", "Agg"]
    assert python(code, MPLBACKEND="module://matplotlib.backends.backend_pdf").split()[0].endswith("backend_pdf")


@pytest.mark.parametrize("name", ["LOCAL_RANK", "RANK", "SLURM_PROCID", "WORLD_SIZE", "PL_TRAINER_FAST_DEV_RUN"])
def test_another_trainings_place_and_settings_do_not_reach_a_command(name, inherited):
    inherited.setenv(name, "1")
    inherited.setenv("SLURM_JOB_ID", "5")  # a launcher needs it
    prepare_command("train")
    assert name not in os.environ and os.environ["SLURM_JOB_ID"] == "5"


def test_a_program_keeps_its_place_among_others(inherited):
    inherited.setenv("LOCAL_RANK", "1")
    prepare_import()
    assert os.environ["LOCAL_RANK"] == "1"


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found"), OSError("No username set")])
def test_a_user_without_a_name_gets_one_by_which_torch_names_a_folder(error, inherited):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        inherited.delenv(name, raising=False)

    def nameless(number: int) -> None:
        raise error

    inherited.setattr("pwd.getpwuid", nameless)
    prepare_import()
    assert getpass.getuser() == str(os.getuid())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_onnx_runtime_opens_no_connection_within_the_time_that_it_would_take(tmp_path: Path):
    said = tmp_path / "calls"
    env = {name: value for name, value in os.environ.items() if name not in (*NO_REPORTS, "CI")}
    code = "import birdclf, onnxruntime, time; time.sleep(12)"
    strace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", said, sys.executable, "-c", code]
    done = subprocess.run(strace, env=env | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120)
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not be used here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    assert "AF_INET" not in said.read_text()
