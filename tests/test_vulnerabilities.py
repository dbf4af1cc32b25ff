"""``make audit`` tells a clean bill from a check that was not made."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "checks" / "vulnerabilities.py"
CLEAN = {"name": "numpy", "version": "2.3", "vulns": []}
FAULT = {"id": "PYSEC-1", "fix_versions": ["3.1.2"], "aliases": [], "description": ""}
KNOWN = {"name": "jinja2", "version": "3.1", "vulns": [FAULT]}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.11.0)"}


@pytest.fixture(scope="module")
def checks():
    spec = importlib.util.spec_from_file_location("vulnerabilities", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([CLEAN], 0, "1 packages, no known vulnerability"),
        ([CLEAN, KNOWN], 1, "jinja2 3.1: PYSEC-1; fixed in 3.1.2"),
        ([CLEAN, KNOWN, SKIPPED], 1, "1 of 3 packages could not be looked up: torch"),
        ([CLEAN, SKIPPED], 2, "THE CHECK WAS NOT MADE"),
        ([], 2, "THE CHECK WAS NOT MADE"),
    ],
)
@pytest.mark.parametrize("ended", [0, 1])
def test_what_was_not_looked_up_is_no_pass(checks, monkeypatch, capsys, packages, status, words, ended):
    said = json.dumps({"dependencies": packages})
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, ended, said, ""))
    assert checks.main() == status and words in capsys.readouterr().out


def test_a_stack_trace_instead_of_an_answer_is_no_pass(checks, monkeypatch, capsys):
    done = subprocess.CompletedProcess([], 1, "", "Traceback\nConnectionError: no such host\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: done)
    assert checks.main() == 2
    out = capsys.readouterr().out
    assert "ConnectionError: no such host" in out and "NOT MADE" in out


def test_what_is_installed_is_asked_for_by_its_release(checks):
    listed = checks.installed()
    assert any(line.startswith("torch==2.") for line in listed) and not any("+" in line for line in listed)
    assert not any(line.startswith("birdclf==") for line in listed)


def test_it_is_a_target_of_make():
    text = (FILE.parents[2] / "Makefile").read_text()
    assert "\naudit: " in text and "tests/checks/vulnerabilities.py" in text
