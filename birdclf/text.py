"""Escapes for untrusted texts, such as names of species and files, in terminals and Markdown."""

import re
from collections.abc import Collection, Iterable
from typing import Final

# Controls of a terminal, line ends of every kind, and marks that turn the direction of what follows.
ORDERS: Final = (*range(32), *range(127, 160), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))


def printable(text: object, keep: str = "") -> str:
    r"""Return a text with control characters and undecodable bytes as escapes, such as ``\n`` and ``\x1b``."""
    text = str(text)
    if text.isprintable():  # nearly all are, and large tables have many
        return text
    return (
        text.translate({code: repr(chr(code))[1:-1] for code in ORDERS if chr(code) not in keep})
        .encode("utf-8", errors="backslashreplace")
        .decode("utf-8")
    )


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]], right: Collection[int] = ()) -> str:
    """Return a Markdown table of escaped cells; ``right`` lists the right-aligned columns."""
    head = list(head)
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def in_markdown(text: str) -> str:
    """Return a text on one line whose characters mean nothing in Markdown or HTML."""
    text = printable(" ".join(text.split()))
    text = re.sub(r"([\\`*|~]|\](?=[(\[:]))", r"\\\1", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside a word it has no meaning
    text = re.sub(r"^(?=[-+=#]+( |$))|(?<= )(?=#+$)", r"\\", text)  # lists, rules, heads and their ends
    text = re.sub(r"^(\d+)(?=[.)]( |$))", r"\1\\", text)
    text = re.sub(r"&(?=\w|#)", "&amp;", text)
    return re.sub(r"<(?=\S)", "&lt;", re.sub(r"^>", "&gt;", text))
