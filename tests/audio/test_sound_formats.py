"""Which endings are taken for sound, and what is said of what is none."""

import re
from pathlib import Path

import pytest
import soundfile

from birdclf.audio.clip import AudioError, Clip
from birdclf.audio.files import FileReader
from birdclf.audio.formats import ENDINGS, FORMAT_OF, is_sound

ROOT = Path(__file__).parents[2]


def test_endings_are_of_formats_that_libsndfile_knows():
    assert set(FORMAT_OF.values()) <= set(soundfile.available_formats())
    assert is_sound("a.WAV") and is_sound("b/c.Aiff") and not is_sound("wav") and not is_sound("a.m4a")


def test_the_readme_lists_the_endings():
    text = " ".join((ROOT / "README.md").read_text().split())
    assert re.search(r"sound files end in (.*?) \(in any case\)", text)[1] == ENDINGS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty, 0 bytes long"),
        (bytes(100_000), "nothing but zero bytes"),
        (b"\n <!DOCTYPE html><html><body>404", "HTML"),
        (b"<html>Please log in</html>", "HTML"),
        (b'{"error": "no such recording"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(range(256)) * 16, "MP4, .*ffmpeg -i"),
        (b"\0\0\0\x18ftypmp42" + bytes(2000), "MP4"),
        (b"\xff\xf1\x50\x80" + bytes(range(256)), "AAC; .*ffmpeg"),
        (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "WMA; .*ffmpeg"),
        (b"#!AMR\n" + bytes(range(99)), "AMR"),
        (b"PK\x03\x04" + bytes(range(99)), "archive"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)) * 9, "picture"),
        (b"RIFF\0\1\0\0AVI LIST", "AVI"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:12],
)
@pytest.mark.parametrize("ending", [".mp3", ".wav"])
def test_what_is_no_sound_is_named(tmp_path, content, words, ending, capfd):
    file = tmp_path / f"a{ending}"
    file.write_bytes(content)
    with (
        pytest.raises(AudioError, match=rf"^is not a sound file that can be read \(it is .*{words}") as caught,
        FileReader().open(Clip("a", str(file))),
    ):
        pass
    assert caught.value.problem == "undecodable" and capfd.readouterr().err == ""
