"""``birdclf fetch xeno-canto`` against a real local server that plays every fault."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import soundfile
from fake_xeno_canto import KEY, FakeXenoCanto, cut, described, short, sound_bytes, status

from birdclf.cli import main
from birdclf.data.sources.fetch.client import FetchError, XenoCantoClient, key_from_environment
from birdclf.data.sources.fetch.download import Fetched, Ledger, checked_query, fetch_xeno_canto
from birdclf.errors import UserError

QUERY = "gen:turdus q:A"
API = "/api/3/recordings"


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeXenoCanto]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FakeXenoCanto(count=5) as fake:
        fake.clock = clock
        yield fake


@pytest.fixture
def client(server: FakeXenoCanto, clock: Clock) -> Iterator[XenoCantoClient]:
    with XenoCantoClient(KEY, server.url, clock=clock, sleep=clock.sleep) as one:
        yield one


@pytest.fixture(autouse=True)
def key_is_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Every test ends with a search for the key in files and output, at the most talkative level of logging."""
    caplog.set_level(logging.DEBUG)
    yield
    out, err = capfd.readouterr()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    names = [str(path) for path in tmp_path.rglob("*")]
    said = [out, err, *names, *(record.getMessage() for phase in PHASES for record in caplog.get_records(phase))]
    for form in (KEY, KEY.replace("+", "%2B").replace("/", "%2F"), KEY.replace("+", "%2B")):
        assert not any(form in text for text in said)
        assert not any(form.encode() in content for content in written)


PHASES = ("setup", "call")


def table(out: Path, name: str = "recordings") -> pd.DataFrame:
    return pd.read_csv(out / f"{name}.csv", dtype=str, keep_default_na=False)


def downloads(server: FakeXenoCanto) -> list[str]:
    return [path for path in server.asked if path != API]


def test_pages_are_read_and_files_are_whole(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    assert fetch_xeno_canto(client, QUERY, tmp_path / "out") == Fetched(found=5, new=5, already=0, skipped=0)
    assert server.asked.count(API) == 3 and set(server.queries) == {QUERY}
    rows = table(tmp_path / "out")
    assert list(rows.id) == ["101", "102", "103", "104", "105"]
    for row in rows.itertuples():
        path = tmp_path / "out" / row.file
        assert path.read_bytes() == server.bodies[row.id]
        assert soundfile.info(path).duration == pytest.approx(float(row.duration_s), abs=0.01)
    first = rows.iloc[0]
    assert first.file == "Turdus merula/XC101.mp3"
    assert (first.species, first.scientific_name, first.genus) == ("Common Blackbird", "Turdus merula", "Turdus")
    assert (first.recordist, first.country, first.locality) == ("Zoë O'Hara, C", "Côte d'Ivoire", "Forêt, west")
    assert (first.quality, first.length, first.date) == ("A", "0:01", "2021-05-03")
    assert first.licence == "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    assert first.url == "https://xeno-canto.org/101" and first.source == f"{server.url}/101/download"
    assert rows.species[2] == "Strix aluco", "a recording without an English name goes by the scientific one"
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file()) == ["recordings.csv"]
    assert [path.name for path in (tmp_path / "out" / ".part").iterdir()] in ([], ["lock"])


def test_one_request_a_second_over_pages_files_and_repeats(
    server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path
):
    server.faults["/102/download"] = [status(302, Location="/102/elsewhere"), status(500)]
    fetch_xeno_canto(client, QUERY, tmp_path)
    gaps = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert len(server.times) == 3 + 5 + 1 and min(gaps) >= 1.0


@pytest.mark.parametrize(
    ("faults", "waits"),
    [
        ([status(500), status(503)], [1, 2]),
        ([cut, cut, cut], [1, 2, 4]),
        ([status(429, Retry_After="37"), status(503, Retry_After="5")], [37, 5]),
        ([status(429, Retry_After="nonsense")], [1]),
    ],
)
def test_faults_are_waited_out(server: FakeXenoCanto, client: XenoCantoClient, clock: Clock, tmp_path, faults, waits):
    for path in (API, "/103/download"):
        server.faults[path] = list(faults)
        before = len(clock.slept)
        assert fetch_xeno_canto(client, QUERY, tmp_path / path[1:4]).new == 5
        slept = iter(clock.slept[before:])
        assert all(wait in slept for wait in waits), "each wait, in this order"
    assert (tmp_path / "103" / "Strix aluco" / "XC103.mp3").read_bytes() == server.bodies["103"]


def test_retry_after_may_be_a_date(server: FakeXenoCanto, client: XenoCantoClient, clock: Clock, tmp_path: Path):
    from email.utils import formatdate

    server.faults[API] = [status(429, Retry_After=formatdate(time.time() + 300, usegmt=True))]
    fetch_xeno_canto(client, QUERY, tmp_path)
    assert 290 < max(clock.slept) <= 300


def test_a_pause_longer_than_an_hour_ends_the_run(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    server.faults["/103/download"] = [status(429, Retry_After="86400")]
    with pytest.raises(UserError, match=r"asks for a pause.*Run the same command again"):
        fetch_xeno_canto(client, QUERY, tmp_path)
    assert list(table(tmp_path).id) == ["101", "102"]


def test_a_short_body_is_fetched_again(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    server.faults["/101/download"] = [short, short]
    assert fetch_xeno_canto(client, QUERY, tmp_path).new == 5
    assert downloads(server).count("/101/download") == 3
    assert (tmp_path / "Turdus merula" / "XC101.mp3").read_bytes() == server.bodies["101"]


def test_a_body_that_stays_short_is_listed_and_leaves_nothing(server: FakeXenoCanto, client, tmp_path: Path):
    server.faults["/101/download"] = [short] * 6
    assert fetch_xeno_canto(client, QUERY, tmp_path) == Fetched(5, 4, 0, 1)
    assert "without sending complete message body" in table(tmp_path, "skipped").reason[0]
    assert not list(tmp_path.rglob("*XC101*"))


def test_what_cannot_be_had_is_listed_with_its_reason(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    server.recordings[0]["file"] = ""
    server.bodies["102"] = b"<html>Please log in</html>"
    server.recordings[2]["file"] = "ftp://example.org/103.mp3"
    del server.bodies["104"]
    assert fetch_xeno_canto(client, QUERY, tmp_path) == Fetched(5, 1, 0, 4)
    skipped = table(tmp_path, "skipped").set_index("id")
    assert "restricted" in skipped.reason["101"] and skipped.recordist["101"] == "Zoë O'Hara, C"
    assert "the file is not a sound file that can be read (it is HTML" in skipped.reason["102"]
    assert "not http or https" in skipped.reason["103"]
    assert "404" in skipped.reason["104"]
    assert list(table(tmp_path).id) == ["105"]
    assert [path.name for path in tmp_path.rglob("XC*")] == ["XC105.mp3"]


def test_skipped_ones_are_asked_for_again_and_struck_out(server: FakeXenoCanto, client, tmp_path: Path):
    server.bodies["102"] = b"no sound"
    fetch_xeno_canto(client, QUERY, tmp_path)
    server.bodies["102"] = sound_bytes(102)
    server.asked.clear()
    assert fetch_xeno_canto(client, QUERY, tmp_path) == Fetched(5, 1, 4, 0)
    assert downloads(server) == ["/102/download"]
    assert table(tmp_path, "skipped").empty and len(table(tmp_path)) == 5


def test_names_from_the_server_stay_inside_the_folder(server: FakeXenoCanto, client, tmp_path: Path):
    server.recordings = [
        described(101, gen="../../..", sp="x/y", **{"file-name": "../../evil.sh"}),
        described(102, gen="", sp=""),
        {**described(103), "id": "../104"},
    ]
    out = tmp_path / "deep" / "out"
    assert fetch_xeno_canto(client, QUERY, out) == Fetched(3, 2, 0, 1)
    assert all(path.is_relative_to(out) for path in tmp_path.rglob("XC*"))
    assert sorted(path.name for path in out.rglob("XC*")) == ["XC101.mp3", "XC102.mp3"]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "con", "Aux.", "鳥" * 200, "a\0b", "\ud800", "..\\..\\x", " . ", "~root"]
)
def test_a_name_that_cannot_be_a_folder_stops_nothing(server: FakeXenoCanto, client, tmp_path: Path, name: str):
    server.recordings = [described(101, gen=name, sp="", en=name), {**described(102), "id": "9" * 300}]
    assert fetch_xeno_canto(client, QUERY, tmp_path / "out") == Fetched(2, 1, 0, 1)
    (file,) = tmp_path.rglob("XC*")
    assert file.parent.parent == tmp_path / "out" and file.name == "XC101.mp3"
    assert file.parent.name.isprintable() and file.parent.name.casefold() not in ("con", "aux")


def test_limit_counts_what_is_there_already(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    server.recordings[0]["file"] = ""
    assert fetch_xeno_canto(client, QUERY, tmp_path, limit=2) == Fetched(5, 2, 0, 1)
    assert fetch_xeno_canto(client, QUERY, tmp_path, limit=3) == Fetched(5, 1, 2, 1)
    assert downloads(server) == ["/102/download", "/103/download", "/104/download"]
    with pytest.raises(UserError, match="limit is 0"):
        fetch_xeno_canto(client, QUERY, tmp_path, limit=0)


def test_three_unreachable_in_a_row_end_the_run(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    for number in (102, 103, 104):
        server.faults[f"/{number}/download"] = [status(502)] * 6
    with pytest.raises(UserError, match=r"3 recordings in a row.*502.*Run the same command again"):
        fetch_xeno_canto(client, QUERY, tmp_path)
    assert list(table(tmp_path).id) == ["101"]
    assert fetch_xeno_canto(client, QUERY, tmp_path) == Fetched(5, 4, 1, 0)


def test_a_refused_key_and_a_refused_query_are_explained(server: FakeXenoCanto, client, clock: Clock, tmp_path: Path):
    with (
        XenoCantoClient("wrong-key-98765", server.url, clock=clock, sleep=clock.sleep) as other,
        pytest.raises(UserError, match=r"refuses the key in XENO_CANTO_KEY \(401: .*\*\*\*.*account") as caught,
    ):
        fetch_xeno_canto(other, QUERY, tmp_path)
    assert "wrong-key" not in str(caught.value) and len(server.asked) == 1
    server.faults[API] = [status(400, json.dumps({"message": f"no tag xyz {KEY}"}).encode())]
    with pytest.raises(UserError, match=r"refuses the query 'xyz:1' \(400: no tag xyz \*\*\*\)"):
        fetch_xeno_canto(client, "xyz:1", tmp_path)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"numPages": 1, "numRecordings": "1", "recordings": [3]}'])
def test_an_answer_of_another_kind_is_explained(server: FakeXenoCanto, client, tmp_path: Path, body: bytes):
    server.faults[API] = [status(200, body)]
    with pytest.raises(UserError, match="not version 3"):
        fetch_xeno_canto(client, QUERY, tmp_path)


def test_no_answer_and_nothing_found_are_explained(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    server.faults[API] = [cut] * 6
    with pytest.raises(UserError, match="gives no answer"):
        fetch_xeno_canto(client, QUERY, tmp_path)
    server.recordings = []
    with pytest.raises(UserError, match="finds no recording"):
        fetch_xeno_canto(client, QUERY, tmp_path)
    server.recordings = [described(7, file="")]
    with pytest.raises(UserError, match=r"None of the 1.*skipped\.csv"):
        fetch_xeno_canto(client, QUERY, tmp_path)


def test_another_host_never_sees_the_key(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    with FakeXenoCanto() as other:
        away = f"{other.url}{API}?query=x&key={KEY.replace('+', '%2B')}"
        server.faults[API] = [status(302, Location=away)]
        server.recordings[0]["file"] += f"?key={KEY.replace('+', '%2B')}"
        server.faults["/102/download"] = [status(302, Location=f"{other.url}/102/download?key={KEY}")]
        other.bodies = server.bodies
        with pytest.raises(UserError, match="refuses the key"):
            fetch_xeno_canto(client, QUERY, tmp_path)
        assert fetch_xeno_canto(client, QUERY, tmp_path).new == 5
        assert len(other.asked) == 2 and "key=" not in "".join(other.raw)
    assert all("key=" not in raw for raw in server.raw if not raw.startswith(API))
    assert all(raw.count("key=") == 1 for raw in server.raw if raw.startswith(API))


def test_the_proxy_of_the_environment_is_used(server: FakeXenoCanto, clock: Clock, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", server.url)
    with XenoCantoClient(KEY, "http://localhost:9", clock=clock, sleep=clock.sleep) as client:  # nobody listens there
        assert fetch_xeno_canto(client, QUERY, tmp_path).new == 5
    assert server.raw[0].startswith(f"http://localhost:9{API}?")


def test_a_full_disk_ends_the_run_and_leaves_nothing_half(
    server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fetch_xeno_canto(client, QUERY, tmp_path, limit=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        fetch_xeno_canto(client, QUERY, tmp_path)
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(tmp_path.rglob("*XC103*"))
    assert fetch_xeno_canto(client, QUERY, tmp_path) == Fetched(5, 3, 2, 0)


def test_a_redirect_in_a_circle_ends(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    server.faults["/101/download"] = [status(302, Location="/101/download")] * 50
    server.faults["/102/download"] = [status(302, Location="http://[broken/")] * 6
    assert fetch_xeno_canto(client, QUERY, tmp_path) == Fetched(5, 3, 0, 2)


def test_two_at_once_and_a_folder_that_is_a_file(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    from filelock import FileLock

    (tmp_path / ".part").mkdir()
    with FileLock(tmp_path / ".part" / "lock"), pytest.raises(UserError, match="Another birdclf fetch"):
        fetch_xeno_canto(client, QUERY, tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be filled"):
        fetch_xeno_canto(client, QUERY, tmp_path / "file")
    (tmp_path / "recordings.csv").write_text("path,species\na.wav,b\n")
    with pytest.raises(UserError, match="no column 'id'"):
        fetch_xeno_canto(client, QUERY, tmp_path)
    assert (tmp_path / "recordings.csv").read_text() == "path,species\na.wav,b\n"


def test_a_file_of_the_users_is_not_overwritten(server: FakeXenoCanto, client: XenoCantoClient, tmp_path: Path):
    (tmp_path / "Turdus merula").mkdir()
    (tmp_path / "Turdus merula" / "XC101.mp3").write_text("mine")
    assert fetch_xeno_canto(client, QUERY, tmp_path) == Fetched(5, 4, 0, 1)
    assert (tmp_path / "Turdus merula" / "XC101.mp3").read_text() == "mine"
    assert "move it away" in table(tmp_path, "skipped").reason[0]


def test_killed_while_a_file_comes_and_started_again(server: FakeXenoCanto, client, tmp_path: Path):
    out, coming, go_on = tmp_path / "out", threading.Event(), threading.Event()

    def hang(handler) -> None:
        body = server.bodies["103"]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:2000])
        handler.wfile.flush()
        coming.set()
        go_on.wait(60)
        handler.close_connection = True

    server.faults["/103/download"] = [hang]
    code = (
        "import sys; from birdclf.cli import main; from birdclf.data.sources.fetch.client import XenoCantoClient as C;"
        "C.__init__.__kwdefaults__['interval_s'] = 0.0; main(sys.argv[1:])"
    )
    given = {**os.environ, "XENO_CANTO_KEY": KEY, "BIRDCLF_XENO_CANTO_URL": server.url}
    run = subprocess.Popen([sys.executable, "-c", code, "fetch", "xeno-canto", QUERY, "--out", str(out)], env=given)
    try:
        assert coming.wait(60)
        deadline = time.monotonic() + 30
        while not list((out / ".part").glob("XC103*")) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        run.kill()
        run.wait(30)
        go_on.set()
    assert list(table(out).id) == ["101", "102"] and not list(out.rglob("Strix*"))
    # A moment later it would have been killed between renaming a file and listing it, or in the middle of a row.
    (out / "Strix aluco").mkdir()
    (out / "Strix aluco" / "XC103.mp3").write_bytes(server.bodies["103"])
    with (out / "recordings.csv").open("a") as file:
        file.write("103,Strix al")
    server.asked.clear()
    assert fetch_xeno_canto(client, QUERY, out) == Fetched(5, 3, 2, 0)
    assert downloads(server) == ["/104/download", "/105/download"]
    assert list(table(out).id) == ["101", "102", "103", "104", "105"]
    assert [path.name for path in (out / ".part").glob("XC*")] == []
    for path in out.rglob("XC*.mp3"):
        assert path.read_bytes() == server.bodies[path.stem[2:]]


def test_a_ledger_keeps_columns_of_the_users(tmp_path: Path):
    ledger = Ledger(tmp_path / "t.csv", ("id", "name"))
    ledger.add({"id": 10, "name": 'a, "b"\nc'})
    ledger.add({"id": 9, "name": "d"})
    ledger.rewrite()
    assert (tmp_path / "t.csv").read_text() == 'id,name\n9,d\n10,"a, ""b"" c"\n'
    (tmp_path / "t.csv").write_text("mine,id\nx,10\n")
    again = Ledger(tmp_path / "t.csv", ("id", "name"))
    again.add({"id": 10, "name": "e"})
    assert again.rows["10"] == {"id": "10", "name": "e", "mine": "x"}


@pytest.mark.parametrize("left", ["1", "13,half a na", '13,"half, a'])
def test_a_ledger_drops_a_row_that_a_killed_run_left_half(tmp_path: Path, left: str):
    (tmp_path / "t.csv").write_text(f"id,name\n12,whole\n{left}")
    ledger = Ledger(tmp_path / "t.csv", ("id", "name"))
    assert set(ledger.rows) == {"12"}
    ledger.add({"id": 14, "name": "next"})
    assert (tmp_path / "t.csv").read_text() == "id,name\n12,whole\n14,next\n"
    (tmp_path / "t.csv").write_text("id,na")
    assert not Ledger(tmp_path / "t.csv", ("id", "name")).rows


@pytest.mark.parametrize(
    "query", [QUERY, 'sp:"larus fuscus" cnt:brazil', "len:>30 q:A", 'box:"1,2,3,4"', "-cnt:peru a:1"]
)
def test_tagged_queries_pass(query: str):
    assert checked_query(f"  {query} ") == query


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (" ", "is empty"),
        ("blackbird", "'blackbird' has no tag"),
        ("gen:turdus merula", 'write gen:"turdus merula"'),
        ('"larus fuscus"', "has no tag"),
        ('sp:"larus fuscus', "leaves a quotation mark open"),
        ("gen: q:A", "'gen:' has no value"),
        ('gen:"" q:A', "has no value"),
        ("gen:larus+sp:fuscus", "a space instead of"),
    ],
)
def test_queries_without_tags_are_explained_before_anything_is_sent(server, client, tmp_path, query, says):
    with pytest.raises(UserError) as caught:
        fetch_xeno_canto(client, query, tmp_path / "out")
    assert says in str(caught.value)
    assert not server.asked and not (tmp_path / "out").exists()


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XENO_CANTO_KEY", raising=False)
    with pytest.raises(UserError, match=r"account.*export XENO_CANTO_KEY"):
        key_from_environment()
    monkeypatch.setenv("XENO_CANTO_KEY", "two words of it")
    with pytest.raises(UserError, match="no key has") as caught:
        key_from_environment()
    assert "two words" not in str(caught.value)
    monkeypatch.setenv("XENO_CANTO_KEY", f" {KEY}\n")
    assert key_from_environment() == KEY


@pytest.mark.parametrize("url", ["http://example.org", "xeno-canto.org", "ftp://example.org", "http://[", "https://"])
def test_a_base_url_that_would_show_the_key_is_refused(url: str):
    with pytest.raises(UserError, match="https://"):
        XenoCantoClient(KEY, url)


def test_addresses_are_completed():
    with XenoCantoClient(KEY, "https://example.org") as client:
        assert client.absolute("//cdn.example.org/1.mp3") == "https://cdn.example.org/1.mp3"
        assert client.absolute("/1/download") == "https://example.org/1/download"
        with pytest.raises(FetchError):
            client.absolute("https://example.org:port/1.mp3")


def test_the_command(server: FakeXenoCanto, tmp_path: Path, monkeypatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setitem(XenoCantoClient.__init__.__kwdefaults__, "interval_s", 0.0)
    monkeypatch.setenv("BIRDCLF_XENO_CANTO_URL", server.url)
    monkeypatch.setenv("XENO_CANTO_KEY", KEY)
    server.recordings[1]["file"] = ""
    main(["fetch", "xeno-canto", QUERY, "--out", str(tmp_path / "out"), "--limit", "3"])
    out, err = capfd.readouterr()
    assert KEY not in out + err
    assert "5 recordings found: 3 fetched, 0 there already, 1 skipped" in out
    assert f"birdclf train data=xeno_canto data.root={tmp_path / 'out'}" in out
    monkeypatch.delenv("XENO_CANTO_KEY")
    with pytest.raises(SystemExit) as left:
        main(["fetch", "xeno-canto", QUERY, "--out", str(tmp_path / "out")])
    assert left.value.code == 1 and "XENO_CANTO_KEY" in capfd.readouterr().err
