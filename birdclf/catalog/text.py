"""Text files as users have them: decoded and cut into rows, refused with the line that is wrong."""

import codecs
import csv
import logging
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from birdclf.disk import refuse_pointer
from birdclf.errors import UserError
from birdclf.quoting import shown

log = logging.getLogger(__name__)


def read_text(file: Path) -> str:
    """Return a text file's content: UTF-8 with or without a byte-order mark, or UTF-16 with one.

    Raises:
        UserError: If it cannot be read, is in another encoding, or is a Git LFS pointer.
    """
    refuse_pointer(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}. Check its permissions.") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise UserError(f"{file} opens as UTF-16 and goes on otherwise. Save the file as UTF-8.") from error
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file}: line {line} is not UTF-8 (byte 0x{error.object[error.start]:02X}). Save the file as UTF-8, "
            f"such as with: iconv -f CP1252 -t UTF-8 OLD > NEW"
        ) from error
    if "\0" in text[:2]:
        order = "BE" if text[0] == "\0" else "LE"
        raise UserError(f"{file} is UTF-16. Save it as UTF-8, such as with: iconv -f UTF-16{order} -t UTF-8 OLD > NEW")
    return text


def rows_of(text: str, file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV text and its rows, each with the number of the line where it begins.

    Args:
        text: The whole table; lines without a value are passed over.
        file: Where it is from, for messages.

    Raises:
        UserError: If another character than a comma separates its columns, a quote is not closed or stands within a
            quoted value, or a row has more or fewer values than the header.
    """
    lines = StringIO(text, newline="").readlines()
    first = re.sub('"[^"]*"', "", next((line for line in lines if line.strip()), ""))
    for character, name in ((";", "semicolons"), ("\t", "tabs")):
        if character in first and "," not in first:
            raise UserError(
                f"{file}: its columns are separated by {name}. Save it with commas between columns, and with points in "
                f"decimal numbers (0.5, not 0,5)."
            )
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    rows, begin = [], 1
    try:
        for row in reader:
            if header is None:
                header = row or None
            elif row and len(row) != len(header):
                where = f"line {begin}" if begin == reader.line_num else f"lines {begin} to {reader.line_num}, one row,"
                raise UserError(
                    f"{file}: {where} has {len(row)} values for {len(header)} columns. Quote values that hold a comma, "
                    f"close each quote, or download the file again."
                )
            elif row:
                rows.append((begin, row))
                more = lines[begin : reader.line_num]
                if any(line.partition('"')[0].count(",") >= len(header) - 1 > 0 for line in more):
                    log.warning(
                        "%s: lines %d to %d are one row, by the quotes around a value. If they are several, close the "
                        "quote of line %d.",
                        shown(file), begin, reader.line_num, _opening(lines, begin, reader.line_num),
                    )  # fmt: skip
            begin = reader.line_num + 1
    except csv.Error as error:
        endless = "end of data" in str(error) or "limit" in str(error)
        line = _opening(lines, begin, reader.line_num + endless)
        closed = "is not closed" if endless else f"is closed within a value, in line {reader.line_num}"
        raise UserError(
            f"{file}: the quote that opens in line {line} {closed}. Close it where its value ends, or double it where "
            f'it belongs to a quoted value ("").'
        ) from error
    return header or [], rows


def _opening(lines: Sequence[str], begin: int, end: int) -> int:
    """Return the last of the lines ``begin`` to ``end - 1`` in which a quote opens and stays open, else the first."""
    opening, inside = begin, False
    for number in range(begin, end):
        if lines[number - 1].count('"') % 2:
            inside = not inside
            opening = number if inside else begin
    return opening
