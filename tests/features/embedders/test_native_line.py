"""One line of TFLite stays off the screen, and nothing else that is written meanwhile."""

import os
from pathlib import Path

import pytest

from birdclf.errors import UserError
from birdclf.features.embedders.network import NATIVE_LINE, _without_native_line, open_network


def test_all_but_the_one_line_is_written(capfd):
    with _without_native_line():
        os.write(2, b"before\n" + NATIVE_LINE + b"\nW: not this one\n")
        os.write(1, b"a result\n")
    os.write(2, b"after\n")
    assert capfd.readouterr() == ("a result\n", "before\nW: not this one\nafter\n")


def test_an_error_comes_through(tmp_path: Path, capfd):
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "none.tflite").write_bytes(b"no network")
    with pytest.raises(UserError, match="cannot be read as a network"):
        open_network(tmp_path / "none.tflite", 8, 1)
    os.write(2, b"after\n")
    assert capfd.readouterr().err.endswith("after\n")
