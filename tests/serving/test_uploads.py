"""What may be uploaded: every limit, and what is said of what is refused."""

import asyncio
import io
import re
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from serving.servers import RATE_HZ, Served, sound

from birdclf.serving import app
from birdclf.serving.app import application, probe_upload, store
from birdclf.serving.guard import Hosts
from birdclf.serving.settings import RefusedError


def ask(served: Served, blocks: Callable[[], bytes | None], *headers: tuple[bytes, bytes]) -> tuple[int, int]:
    """Send a body block by block until there is none or nobody wants more; return the status and how many went."""
    taken, status = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        block = blocks()
        taken += 1
        return (
            {"type": "http.disconnect"} if block is None else {"type": "http.request", "body": block, "more_body": True}
        )

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/recordings",
        "raw_path": b"/recordings", "root_path": "", "scheme": "http", "query_string": b"name=a.wav",
        "headers": [(b"host", b"127.0.0.1"), *headers], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 7860),
    }  # fmt: skip
    asyncio.run(application(served.session, Hosts("127.0.0.1"))(scope, receive, send))
    return status, taken


@pytest.mark.parametrize("announced", [(), ((b"content-length", b"10"),), ((b"content-length", b"x"),)])
def test_a_body_without_end_is_cut_off_at_the_limit(served: Served, announced):
    status, taken = ask(served, lambda: bytes(500_000), *announced)
    assert (status, taken) == (413, 11)  # the limit is 5 MB
    assert served.files() == []


def test_a_body_that_is_announced_too_large_is_not_read(served: Served):
    assert ask(served, lambda: bytes(1), (b"content-length", b"10000000000")) == (413, 0)
    assert served.files() == []


def test_nothing_is_left_of_an_upload_that_breaks_off(served: Served):
    left = [sound()[:1000], None]
    assert ask(served, lambda: left.pop(0))[0] == 400
    assert served.files() == []
    assert served.heard(sound())["state"] == "done"


def test_an_upload_that_stands_still_is_given_up(served: Served, monkeypatch):
    async def standing() -> AsyncIterator[bytes]:
        yield sound()[:1000]
        await asyncio.sleep(60)

    monkeypatch.setattr("birdclf.serving.app.STANDSTILL_S", 0.05)
    with pytest.raises(RefusedError, match="Nothing arrived for 0.05 s") as refused:
        asyncio.run(store(standing(), served.session.folder.temporary(), served.session.limits))
    assert refused.value.status == 408


def test_as_large_as_the_limit_is_taken(serving):
    content = sound()
    served = serving(megabytes=len(content) / 1e6)
    assert served.heard(content)["state"] == "done"
    answer = served.upload(content + b"0")
    assert answer.status_code == 413
    assert answer.json()["problem"].startswith("The file is larger than 0.064")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty"),
        (
            b"Dear diary, today I heard a wren.\n" * 99,
            "The file cannot be decoded (Format not recognised). Choose a WAV, FLAC",
        ),
        (b"<!DOCTYPE html><title>404 Not Found</title>", "is not a sound file that can be read (it is HTML"),
        (b"\xff\xfb\x90\x00" + bytes(400), "."),
        (sound()[:40], "."),
        (sound((0,), (0,)), "holds no sound"),
        (sound(format="AIFF"), "AIFF, which browsers cannot play"),
        (sound(rate=500), "500 Hz"),
    ],
    ids=["empty", "text", "page", "scrap of mp3", "head of wav", "no sample", "aiff", "slow"],
)
def test_what_is_no_recording_is_refused_in_a_sentence(served: Served, content: bytes, words: str):
    answer = served.upload(content)
    assert answer.status_code == 422 and words in answer.json()["problem"], answer.text
    assert answer.json()["problem"].count("\n") == 0
    assert served.files() == [] and served.client.get("/session").json()["recordings"] == []


def test_many_channels_are_refused_before_they_are_decoded(served: Served):
    file = io.BytesIO()
    soundfile.write(file, np.zeros((10, 500), np.float32), 48_000, format="WAV", subtype="PCM_16")
    assert "500 channels" in served.upload(file.getvalue()).json()["problem"]


def test_too_long_by_its_header(served: Served):
    answer = served.upload(sound((61,), (0.1,)))
    assert answer.status_code == 422 and "is 1.0 minutes long; at most 1 minutes" in answer.json()["problem"]
    assert served.files() == []


def test_too_long_whatever_its_header_says(served: Served, monkeypatch):
    monkeypatch.setattr(app, "probe_upload", lambda file, limits: (*probe_upload(file, type(limits)(5, 100))[:2], 1.0))
    told = served.heard(sound((200,), (0.1,)))
    assert told["state"] == "failed" and "is longer than it says" in told["problem"]
    assert served.files() == []


def test_samples_that_are_no_numbers(served: Served):
    file = io.BytesIO()
    soundfile.write(file, np.full(RATE_HZ * 2, np.nan, np.float32), RATE_HZ, format="WAV", subtype="FLOAT")
    told = served.heard(file.getvalue())
    assert told["state"] == "failed" and "not finite" in told["problem"] and served.files() == []


def test_a_recording_that_breaks_off_is_decoded_as_far_as_it_goes(serving):
    content = sound((60, 60), (0.9, 0.1), format="FLAC")
    told = serving(minutes=3).heard(content[: len(content) * 4 // 5])
    assert told["state"] == "done" and told["rows"] and told["duration_s"] == 60
    assert "cannot be decoded" in told["problem"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("song.wav", "song.wav"),
        ("../../../etc/passwd", "passwd.wav"),
        ("C:\\Users\\me\\my song.WAV", "my song.wav"),
        ("/etc/cron.d/x", "x.wav"),
        ("..", "recording.wav"),
        ("", "recording.wav"),
        (".hidden", "hidden.wav"),
        ("<img src=x onerror=alert(1)>.wav", "img src x onerror alert(1).wav"),
        ("=cmd|'calc'!A1.wav", "cmd calc A1.wav"),
        ("a\0b\r\nc.wav", "a b c.wav"),
        ("x" * 5000 + ".wav", "x" * 50 + ".wav"),
        ("Mönchsgrasmücke (früh).flac", "Mönchsgrasmücke (früh).wav"),
        ("鶯" * 60, "鶯" * 50 + ".wav"),
    ],
)
def test_a_name_never_becomes_a_path_as_it_is(served: Served, name: str, kept: str):
    told = served.heard(sound(), name)
    (file,) = served.files()
    assert re.fullmatch("[0-9a-f]{16}", file[:16]) and file[16:] == f"_{kept}" and told["id"] == file[:16]
    assert sorted(path.name for path in served.folder.iterdir()) == ["recordings", "serve.json"]


def test_names_are_no_tags_in_json(served: Served):
    name = "<script>alert('&')</script x>.wav"
    answer = served.upload(sound(), name)
    assert b"<" not in answer.content and b"&" not in answer.content
    assert answer.json()["name"] == "script x>.wav"  # what stands behind the last slash
    assert served.upload(sound(), "<b>\x1b[31mred</b").json()["name"] == "b"
    assert served.upload(sound(), "<b>\x1b[31mred").json()["name"] == "<b>\\x1b[31mred"


def test_the_same_content_is_kept_once(serving, served: Served):
    first = served.heard(sound(), "one.wav")
    assert served.heard(sound(), "two.wav")["id"] == first["id"]
    assert served.files() == [f"{first['id']}_one.wav"]
    served.session.stop()
    again = serving(served.folder)
    assert again.heard(sound(), "three.wav")["state"] == "done" and again.files() == [f"{first['id']}_one.wav"]


def test_kinds_of_files(served: Served):
    for kind, ending, media in (
        ("FLAC", "flac", "audio/flac"),
        ("OGG", "ogg", "audio/ogg"),
        ("MP3", "mp3", "audio/mpeg"),
    ):
        told = served.heard(sound((3, 3), format=kind, rate=32_000), "anything.exe")
        assert told["state"] == "done", told
        answer = served.client.get(f"/recordings/{told['id']}/sound")
        assert answer.headers["content-type"] == media and f"{told['id']}_anything.{ending}" in served.files()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_confidence": 2}, "least confidence must be a number from 0 to 1"),
        ({"min_confidence": "nan"}, "least confidence"),
        ({"hop": 0}, "hop must be a number from 0.1 to 60"),
        ({"hop": "1e9"}, "hop"),
        ({"hop": "one"}, "hop"),
        ({"top_k": 0}, "species in a window must be a number from 1 to 20"),
        ({"top_k": 1.5}, "whole number"),
    ],
)
def test_settings_out_of_range(served: Served, settings, words):
    answer = served.upload(sound(), **settings)
    assert answer.status_code == 422 and words in answer.json()["problem"]
    assert served.files() == []


def test_the_page_stays_alive_while_one_is_classified_and_others_wait(serving):
    served = serving(wait_s=0.3)
    told = [served.upload(sound((3, n)), f"{n}.wav").json() for n in (1, 2, 3)]
    assert served.client.get("/").status_code == 200
    states = [served.client.get(f"/recordings/{one['id']}").json()["state"] for one in told]
    assert states.count("listening") <= 1 and states[-1] == "waiting"
    assert [served.ended(one["id"])["state"] for one in told] == ["done"] * 3


def test_so_many_wait_and_no_more(serving, monkeypatch):
    monkeypatch.setattr("birdclf.serving.session.MOST_WAITING", 1)
    served = serving(wait_s=1)
    answers = [served.upload(sound((1, n / 10)), f"{n}.wav") for n in (1, 2, 3, 4)]
    assert answers[-1].status_code == 503 and "wait already" in answers[-1].json()["problem"]


def test_so_many_at_once_and_no_more(served: Served, monkeypatch):
    monkeypatch.setattr("birdclf.serving.app.MOST_UPLOADS", 0)
    assert served.upload(sound()).status_code == 503
    assert served.files() == []


def test_a_disk_that_is_full(served: Served, monkeypatch):
    async def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("birdclf.serving.app.store", full)
    answer = served.upload(sound())
    assert answer.status_code == 507 and "No space left on device" in answer.json()["problem"]


def test_an_error_of_birdclf_is_reported_without_its_trace(serving, caplog):
    served = serving(broken=ZeroDivisionError("secret"))
    told = served.heard(sound())
    assert told["state"] == "failed" and "its terminal says what" in told["problem"] and "secret" not in str(told)
    assert "ZeroDivisionError" in caplog.text
    served.classifier.broken = None
    assert served.heard(sound())["state"] == "done"


def test_the_thread_ends_with_the_session(serving):
    served = serving(wait_s=0.2)
    served.upload(sound((10, 10)))
    served.session.stop()
    assert not [one for one in threading.enumerate() if one is served.session._thread]
