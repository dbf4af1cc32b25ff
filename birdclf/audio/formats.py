"""File types: the extensions of sound files, and the types that cannot be decoded."""

import os
import re
from typing import Final

FORMAT_OF: Final = {
    ".aif": "AIFF", ".aifc": "AIFF", ".aiff": "AIFF", ".au": "AU", ".bwf": "WAV", ".caf": "CAF", ".flac": "FLAC",
    ".mp2": "MP3", ".mp3": "MP3", ".oga": "OGG", ".ogg": "OGG", ".opus": "OGG", ".rf64": "RF64", ".snd": "AU",
    ".sph": "NIST", ".voc": "VOC", ".w64": "W64", ".wav": "WAV", ".wave": "WAV",
}  # fmt: skip
"""Extensions of sound files, each with libsndfile's name of its format; the content decides how it is decoded."""
ENDINGS: Final = ", ".join(FORMAT_OF)
_CONVERT: Final = "convert it, such as with: ffmpeg -i IN OUT.flac"
_KINDS: Final = (
    (rb"\s*(\xef\xbb\xbf)?\s*<(!doctype )?html", "HTML, such as the page of a failed download; fetch it again"),
    (rb"version https://git-lfs", "a Git LFS pointer to the recording; run: git lfs pull"),
    (rb"....ftyp", f"MP4, mostly with AAC; {_CONVERT}"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", f"WMA; {_CONVERT}"),
    (rb"\xff[\xf0\xf1\xf8\xf9]|ADIF", f"AAC; {_CONVERT}"),
    (rb"#!AMR", f"AMR; {_CONVERT}"),
    (rb"MAC ", f"Monkey's Audio; {_CONVERT}"),
    (rb"wvpk", f"WavPack; {_CONVERT}"),
    (rb"DSD |FRM8", f"DSD; {_CONVERT}"),
    (rb"\x1a\x45\xdf\xa3", f"Matroska or WebM; {_CONVERT}"),
    (rb"RIFF....AVI ", f"an AVI film; {_CONVERT}"),
    (rb"WAAC", "Wildlife Acoustics' WAC; convert it with Kaleidoscope"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "a packed archive; unpack it"),
    (rb"%PDF", "PDF"),
    (rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP", "a picture"),
    (rb"\0\x05\x16\x07", "what macOS keeps beside a file, not the file; copy the recording again"),
    (rb"\s*<\?xml|\s*[{\[]\s*[\"{]", "XML or JSON, such as an answer to a failed download; fetch it again"),
)
"""First bytes of files that libsndfile does not decode, and their description for the user."""
_ANY: Final = re.compile(b"|".join(begin for begin, _ in _KINDS), re.IGNORECASE | re.DOTALL)  # rules out most files
_KIND: Final = [(re.compile(begin, re.IGNORECASE | re.DOTALL), words) for begin, words in _KINDS]


def is_sound(name: str | os.PathLike[str]) -> bool:
    """Return whether a file's name has the extension of a sound file, in upper or lower case."""
    return os.path.splitext(name)[1].lower() in FORMAT_OF


def other_kind(head: bytes) -> str:
    """Return a description of a file that cannot be decoded, from its first bytes; empty if they are not known."""
    if not head:
        return "empty, 0 bytes long"
    if not head.strip(b"\0"):
        return "nothing but zero bytes"
    return next((words for begin, words in _KIND if begin.match(head)), "") if _ANY.match(head) else ""
