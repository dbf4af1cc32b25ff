"""What stops a run from writing is a sentence; what it cannot read is not blamed on its folder."""

import logging
import os
import threading

import pytest

from birdclf.errors import UserError
from birdclf.files import (
    LogFile,
    check_writable,
    digest,
    explain_disk,
    file_hash,
    lock_file,
    refuse_existing,
    write_whole,
    writing_to,
)

FULL = (28, "No space left on device")


@pytest.mark.parametrize("named", [False, True])
def test_a_full_disk_or_a_lost_folder_says_what_to_do(tmp_path, named):
    where = (str(tmp_path / "history.json"),) if named else ()
    said = r"cannot be written to: No space left on device\. Free some space .*; go on\."
    with pytest.raises(UserError, match=said), writing_to(tmp_path, "go on."):
        raise OSError(*FULL, *where)


def test_it_is_found_below_what_a_library_made_of_it(tmp_path):
    with pytest.raises(UserError, match="No space left"), writing_to(tmp_path, "go on."):
        try:
            raise OSError(*FULL)
        except OSError as error:
            raise ValueError("a scalar that cannot be logged") from error


def test_a_file_elsewhere_is_another_matter(tmp_path):
    with pytest.raises(FileNotFoundError), writing_to(tmp_path / "run", "go on."):
        raise FileNotFoundError(2, "No such file or directory", str(tmp_path / "song.wav"))


def test_a_users_mistake_stays_one(tmp_path):
    with pytest.raises(UserError, match="too few"), writing_to(tmp_path, "go on."):
        raise UserError("too few recordings")


def test_what_nobody_put_in_words_is_a_sentence_unless_it_is_our_mistake():
    assert explain_disk(OSError(*FULL)).startswith("A file cannot be read or written: No space left on device.")
    assert explain_disk(PermissionError(13, "Permission denied", "here")).startswith("here cannot be read or written")
    assert explain_disk(FileNotFoundError(2, "No such file or directory", "here")) is None
    assert explain_disk(ValueError("no")) is None


def test_a_folder_that_takes_nothing_is_found_out_at_once(tmp_path):
    check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        check_writable(tmp_path / "file" / "below")


def test_a_line_of_the_log_that_finds_no_room_leaves_no_stack_trace(capsys):
    log = LogFile("/dev/full")
    log.emit(logging.makeLogRecord({"msg": "hello"}))
    log.close()
    log = LogFile("/dev/null")
    log.emit(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))  # a mistake of ours is shown
    said = capsys.readouterr().err
    assert said.count("Traceback") == 1 and "No space" not in said


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch, step):
    path = tmp_path / "file.json"
    write_whole(path, "before")

    def full(*files):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "after", sync=True)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_of_a_file_of_birdclf_alone_is_replaced(tmp_path):
    (tmp_path / ".file.json.tmp").write_text("half of")
    write_whole(tmp_path / "file.json", b"whole", alone=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_the_hash_is_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"1"), (tmp_path / "b").write_bytes(b"1"), (tmp_path / "c").write_bytes(b"2")
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b") == digest(b"1") != file_hash(tmp_path / "c")


def test_nothing_is_overwritten_be_it_a_link_to_nothing(tmp_path):
    refuse_existing(tmp_path / "new", "Choose another.")
    (tmp_path / "new").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"new exists already; nothing is overwritten\. Choose another\."):
        refuse_existing(tmp_path / "new", "Choose another.")


def test_a_lock_is_refused_or_waited_for(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "lock"
    with lock_file(path):
        with pytest.raises(UserError, match="busy"), lock_file(path, busy=UserError("busy")):
            pass
        waiting = threading.Thread(target=lambda: lock_file(path, waits="waiting for it").__enter__())
        waiting.start()
        waiting.join(timeout=0.3)
        assert waiting.is_alive() and "waiting for it" in caplog.text
    waiting.join(timeout=10)
    assert not waiting.is_alive()
