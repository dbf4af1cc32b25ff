"""A folder of results: gone on with, refused, and never written over."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.detection.detections import Detection
from birdclf.detection.inputs import recordings_of
from birdclf.detection.predict import JOURNAL, LOCK, SETTINGS, results_folder
from birdclf.detection.results import Result, Written
from birdclf.errors import UserError

HOW = {"model": "abc", "hop": 5.0, "species": ("a", "b")}
FOUND = [Detection(0.0, 1.5, "a", 0.75, 1)]


@pytest.fixture
def recordings(tmp_path: Path):
    """Three files with something in them."""
    (tmp_path / "in").mkdir()
    for name in ("one.wav", "two.wav", "three.wav"):
        (tmp_path / "in" / name).write_bytes(b"sound")
    return recordings_of([str(tmp_path / "in")])


def result(recording, found=FOUND, problem=""):
    return Result(recording.path, recording.name, 3.25, len(found), problem, found)


def names(recordings):
    return [one.name for one in recordings]


def begun(out: Path, recordings, count: int, **how):
    with results_folder(out, HOW | how) as folder:
        for one in folder.left(recordings)[:count]:
            folder.add(one, result(one))


def test_what_is_done_is_kept_and_the_rest_is_left(tmp_path: Path, recordings):
    out = tmp_path / "deep" / "out"
    begun(out, recordings, 2)
    with results_folder(out, HOW) as folder:
        assert names(folder.left(recordings)) == names(recordings)[2:]
        assert folder.results() == [result(one) for one in recordings[:2]]
        assert folder.names() == {one.file: one.name for one in recordings[:2]}


texts = st.text(st.characters(codec="utf-8"), max_size=12)


@given(texts, texts, st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), texts, st.floats(0, 1), st.integers(1))))
def test_a_result_comes_back_as_it_was(path, problem, rows):
    one = Result(path, "name", 1.5, 3, problem, [Detection(*row) for row in rows])
    assert Result.read(json.loads(json.dumps(one.as_dict()))) == one


@pytest.mark.parametrize("cut", [1, 30, -2, -1])
def test_a_line_that_was_cut_short_is_done_again(tmp_path: Path, recordings, cut):
    begun(tmp_path / "out", recordings, 2)
    journal = tmp_path / "out" / JOURNAL
    first, second = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(first + second[:cut])
    with results_folder(tmp_path / "out", HOW) as folder:
        left = folder.left(recordings)
        assert names(left) == names(recordings)[1:]
        folder.add(left[0], result(left[0]))
    assert journal.read_bytes() == first + second


def test_a_damaged_line_is_named(tmp_path: Path, recordings):
    begun(tmp_path / "out", recordings, 3)
    journal = tmp_path / "out" / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    for damage in (b"rubbish\n", b"[]\n", b'{"file": 1}\n'):
        journal.write_bytes(lines[0] + damage + lines[2])
        with pytest.raises(UserError, match="line 2 is damaged"), results_folder(tmp_path / "out", HOW):
            pass


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"hop": 2.5}, "hop was 5.0 and is 2.5 now"),
        ({"model": "other"}, "model was 'abc' and is 'other' now"),
        ({"species": ("a",)}, r"species was \['a', 'b'\] and is \['a'\] now"),
        ({"smooth_s": 1.0}, "smooth_s was None and is 1.0 now"),
    ],
)
def test_other_settings_are_named(tmp_path: Path, recordings, how, words):
    begun(tmp_path / "out", recordings, 1)
    before = (tmp_path / "out" / SETTINGS).read_bytes()
    with pytest.raises(UserError, match=words), results_folder(tmp_path / "out", HOW | how):
        pass
    assert (tmp_path / "out" / SETTINGS).read_bytes() == before


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"settings": 1, "written": {}}', '{"settings": {}, "written": []}',
     '{"settings": {}, "written": {"a": 1}}'],
)  # fmt: skip
def test_settings_that_cannot_be_read_are_refused(tmp_path: Path, content):
    (tmp_path / SETTINGS).write_text(content)
    with pytest.raises(UserError, match=f"{SETTINGS} cannot be read"), results_folder(tmp_path, HOW):
        pass


def test_a_folder_of_something_else_is_kept(tmp_path: Path):
    (tmp_path / "mine.txt").touch()
    for path in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UserError, match="holds no results"), results_folder(path, HOW):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("leftover", [(), (LOCK,), (LOCK, f".{SETTINGS}.tmp")])
def test_a_folder_whose_start_was_cut_short_is_taken(tmp_path: Path, recordings, leftover):
    out = tmp_path / "out"
    out.mkdir()
    for name in leftover:
        (out / name).touch()
    begun(out, recordings, 1)
    assert (out / SETTINGS).exists() and not (out / f".{SETTINGS}.tmp").exists()


def test_a_recording_that_changed_is_done_again(tmp_path: Path, recordings):
    begun(tmp_path / "out", recordings, 3)
    Path(recordings[1].file).write_bytes(b"another sound")
    with results_folder(tmp_path / "out", HOW) as folder:
        (left,) = folder.left(recordings)
        assert left == recordings[1]
        folder.add(left, result(left, []))
        assert [len(one.detections) for one in folder.results()] == [1, 0, 1], "in its old place"


def test_a_recording_that_changes_while_it_is_classified_is_done_again(tmp_path: Path, recordings):
    with results_folder(tmp_path / "out", HOW) as folder:
        folder.left(recordings)
        Path(recordings[0].file).write_bytes(b"more than there was")
        folder.add(recordings[0], result(recordings[0]))
        assert recordings[0] in folder.left(recordings)


def test_two_processes_at_once_are_refused(tmp_path: Path, recordings):
    with results_folder(tmp_path / "out", {}):
        pass
    # What another command holds while it writes there; a process that imports no more is quick.
    code = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]): print('open', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code, str(tmp_path / "out" / LOCK)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        (tmp_path / "out" / JOURNAL).write_bytes(b"half a li")
        with pytest.raises(UserError, match="another process"), results_folder(tmp_path / "out", {}):
            pass
        assert (tmp_path / "out" / JOURNAL).read_bytes() == b"half a li", "it is the other's to finish"
        other.kill()
    with results_folder(tmp_path / "out", {}):
        pass


def written(out: Path, *files: Written) -> list[str]:
    with results_folder(out, HOW) as folder:
        return folder.write(files)


def test_what_the_user_changed_is_left_and_told(tmp_path: Path):
    out = tmp_path / "out"
    assert written(out, Written("a.csv", b"1"), Written("sub/b.csv", b"1")) == []
    assert written(out, Written("a.csv", b"2"), Written("sub/b.csv", b"1")) == []
    (out / "a.csv").write_bytes(b"2 and a remark")
    (out / "new.csv").write_bytes(b"of the user")
    assert written(out, Written("a.csv", b"3"), Written("sub/b.csv", b"3"), Written("new.csv", b"3")) == [
        "a.csv",
        "new.csv",
    ]
    assert (out / "a.csv").read_bytes() == b"2 and a remark" and (out / "new.csv").read_bytes() == b"of the user"
    assert (out / "sub" / "b.csv").read_bytes() == b"3"
    (out / "a.csv").unlink()
    assert written(out, Written("a.csv", b"3"), Written("new.csv", b"of the user")) == []
    assert (out / "a.csv").read_bytes() == b"3"


@given(st.lists(st.tuples(st.sampled_from([b"1", b"2", b"3"]), st.booleans()), min_size=1, max_size=8))
def test_kills_between_knowing_and_writing_do_not_make_a_file_the_users(tmp_path_factory, calls):
    out = tmp_path_factory.mktemp("kills") / "out"
    for content, killed in calls:
        with pytest.MonkeyPatch.context() as patch, results_folder(out, HOW) as folder:
            if killed:
                write = folder._save
                patch.setattr(folder, "_save", lambda write=write: (write(), 1 / 0))
                with pytest.raises(ZeroDivisionError):
                    folder.write([Written("a.csv", content)])
            else:
                assert folder.write([Written("a.csv", content)]) == []
                assert (out / "a.csv").read_bytes() == content


def test_what_is_not_needed_takes_the_place_of_an_older_one_only(tmp_path: Path):
    out = tmp_path / "out"
    written(out, Written("a.txt", b"rows"), Written("b.txt", b"none", needed=False))
    written(out, Written("a.txt", b"none", needed=False))
    assert (out / "a.txt").read_bytes() == b"none" and not (out / "b.txt").exists()
