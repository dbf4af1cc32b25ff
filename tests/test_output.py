"""Standard output that is full, closed or of another encoding stops no work."""

import json
import os
import subprocess
import sys

import pytest

from birdclf.output import ESCAPE, LossyStream, print_result

PREPARED = "import sys; from birdclf.output import prepare_output, print_result, take_lost; prepare_output()\n"
EVERY_WAY = """
import logging
from rich.console import Console
logging.basicConfig(stream=sys.stdout, level=logging.INFO)
for _ in range(3000):
    print("łabędź")
    logging.info("łabędź \\u2022")
Console().print("łabędź \\u2022")
print("\\udcff", file=sys.stderr)
"""


def shell(code: str, redirected: str = "", **variables: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a program whose streams a shell has redirected."""
    words = ["sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, code]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(words, env=env | variables, capture_output=True, timeout=60)


@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize("redirected", [">/dev/full", ">&-", ">/dev/full 2>&1", ">&- 2>&-", "<&- >&- 2>&-", "2>&-"])
def test_nothing_that_is_printed_or_logged_fails(redirected, unbuffered, tmp_path):
    kept = tmp_path / "kept"
    after = f"open({str(kept)!r}, 'w').write('whole')\nprint('after')\n"
    done = shell(PREPARED + EVERY_WAY + after, redirected, **unbuffered)
    assert done.returncode == 0
    assert b"Error" not in done.stderr and b"Traceback" not in done.stderr
    assert kept.read_text() == "whole"  # and not what was printed after stdout's number was given away


@pytest.mark.parametrize("encoding", ["latin-1", "ascii:strict", "cp437"])
def test_what_an_encoding_lacks_is_replaced_by_one_character(encoding):
    done = shell(PREPARED + "print('łabędź•')", PYTHONIOENCODING=encoding)
    assert (done.returncode, len(done.stdout), done.stdout[2:3]) == (0, len("łabędź•") + 1, b"b")
    assert done.stdout.startswith(b"?")


def test_a_pipe_that_is_not_read_stops_no_work():
    done = shell(PREPARED + "for _ in range(99999): print('more')\nsys.stderr.write(repr(take_lost()))", "| true")
    assert done.stderr == b"BrokenPipeError(32, 'Broken pipe')"


def test_a_result_is_printed_whole_or_refused():
    done = shell(PREPARED + "print_result('x')", ">/dev/full")
    assert b"UserError: standard output cannot be written to: No space left on device. Free some space" in done.stderr
    assert b"Bad file descriptor" in shell(PREPARED + "print_result('x')", ">&-").stderr
    assert shell(PREPARED + "print_result('łą')", PYTHONIOENCODING="latin-1").stdout == b"\\u0142\\u0105"


def test_a_result_in_json_stays_json_in_any_encoding():
    line = json.dumps({"é": "łabędź 🐦"}, ensure_ascii=False)
    assert json.loads(line.encode("ascii", ESCAPE)) == json.loads(line)


def test_streams_that_others_have_set_are_kept(capsys):
    print_result("łabędź")
    assert capsys.readouterr().out == "łabędź"


def test_the_first_loss_is_kept_and_a_later_line_may_pass():
    stream = LossyStream(None)
    assert stream.write(b"abc") == 3
    assert stream.lost is not None and stream.lost.strerror == "Bad file descriptor" and not stream.isatty()
    with pytest.raises(OSError, match="fileno"):
        stream.fileno()
