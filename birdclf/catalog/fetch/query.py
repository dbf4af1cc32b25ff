"""What a Xeno-canto query must look like, checked before anything is sent."""

import re

from birdclf.errors import UserError

_TERM = re.compile(r'(?P<tag>-?[A-Za-z]+):(?P<value>"[^"]*"|[^\s"]*)')
_WORD = re.compile(r'(?:"[^"]*"|[^\s"])+')
_EXAMPLE = 'for example "gen:turdus q:A", "sp:\\"larus fuscus\\" cnt:brazil" or "en:\\"barn owl\\" len:10-60"'


def checked_query(query: str) -> str:
    """Return the query with single spaces between its terms, each of them ``tag:value`` or ``tag:"two words"``.

    Version 3 of the interface answers no free text; which tags there are is left to the server.

    Raises:
        UserError: If the query is empty, a quotation mark is left open, or a term has no tag or no value.
    """
    if not query.strip():
        raise UserError(f"The Xeno-canto query is empty; give terms with tags, {_EXAMPLE}.")
    if query.count('"') % 2:
        raise UserError(
            f"The Xeno-canto query {query!r} leaves a quotation mark open. Quote values of several words, {_EXAMPLE}."
        )
    terms = _WORD.findall(query)
    for place, term in enumerate(terms):
        match = _TERM.fullmatch(term)
        if match is None:
            raise UserError(_no_tag(query, terms, place))
        if not match["value"].strip('" '):
            raise UserError(f"The Xeno-canto query {query!r}: {term!r} has no value. Write tag:value, {_EXAMPLE}.")
        if re.search(r"\+-?[A-Za-z]+:", match["value"]) and not match["value"].startswith('"'):
            raise UserError(f"The Xeno-canto query {query!r}: put a space instead of '+' between terms, {_EXAMPLE}.")
    return " ".join(terms)


def _no_tag(query: str, terms: list[str], place: int) -> str:
    term = terms[place]
    before = _TERM.fullmatch(terms[place - 1]) if place else None
    if before is not None and before["value"] and not before["value"].startswith('"'):
        guess = f'; if it belongs to the term before it, write {before["tag"]}:"{before["value"]} {term}"'
    else:
        guess = ""
    return (
        f"The Xeno-canto query {query!r}: {term!r} has no tag, and version 3 of the interface needs one on every "
        f"term{guess}. Tags are gen, sp, en, cnt, q, type, rec, len, since, area, grp and more, {_EXAMPLE}."
    )
