"""From a query to a trained network, through the command line, with a server on this machine."""

from pathlib import Path

import pandas as pd
import pytest
from fake_xeno_canto import KEY, FakeXenoCanto, described, sound_bytes
from tiny_runs import TINY, Command, metrics_of

from birdclf.data.sources.fetch.client import XenoCantoClient


@pytest.mark.slow
def test_fetch_then_train(birdclf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(XenoCantoClient.__init__.__kwdefaults__, "interval_s", 0.0)
    monkeypatch.setenv("XENO_CANTO_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FakeXenoCanto(page_size=6) as server:
        monkeypatch.setenv("BIRDCLF_XENO_CANTO_URL", server.url)
        server.recordings = [described(201 + i, i % 2) for i in range(16)]
        server.bodies = {str(201 + i): sound_bytes(201 + i, hz=1500 + 2500 * (i % 2)) for i in range(16)}
        done = birdclf("fetch", "xeno-canto", "gen:turdus q:A", "--out", "songs", cwd=tmp_path)
    assert done.status == 0, done.err
    words = next(line.split() for line in done.out.splitlines() if line.strip().startswith("birdclf train"))
    done = birdclf(*words[1:], *TINY, "hydra.run.dir=run", cwd=tmp_path)
    assert done.status == 0, done.err
    split = pd.read_csv(tmp_path / "run" / "split.csv")
    assert set(split.recording_id) == {f"XC{201 + i}" for i in range(16)}
    assert set(split.species) == {"Common Blackbird", "Song Thrush"}
    assert metrics_of(tmp_path / "run")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_missing_key_is_one_line(birdclf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XENO_CANTO_KEY", raising=False)
    said = birdclf("fetch", "xeno-canto", "gen:turdus", "--out", "songs", cwd=tmp_path).mistake
    assert "XENO_CANTO_KEY" in said and "xeno-canto.org/account" in said
    assert not (tmp_path / "songs").exists()
