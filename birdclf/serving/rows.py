"""A row of the page's table: what was detected, and what its user says of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from birdclf.detection.detections import DIGITS, Detection
from birdclf.serving.settings import RefusedError

UNCHECKED: Final = ""
CONFIRMED: Final = "confirmed"
CORRECTED: Final = "corrected"
NO_BIRD: Final = "no bird"
LONGEST_NAME: Final = 100


@dataclass(frozen=True)
class Row:
    """A stretch of a recording.

    Attributes:
        start_s: Where it begins, in seconds.
        end_s: Where it ends, in seconds.
        predicted: Species that was detected; empty in a row that a user wrote into the file by hand.
        confidence: Of the detection; None likewise.
        verdict: One of the words above.
        species: What the user says it is; empty unless confirmed or corrected.
        windows: How many windows it was found in; 0 if it is known from the file alone.
    """

    start_s: float
    end_s: float
    predicted: str
    confidence: float | None
    verdict: str = UNCHECKED
    species: str = ""
    windows: int = 0

    @property
    def key(self) -> tuple[float, float, str]:
        """What tells it from other rows of its recording."""
        return round(self.start_s, DIGITS), round(self.end_s, DIGITS), self.predicted

    @property
    def is_label(self) -> bool:
        """Whether a user says which species it is."""
        return self.verdict in (CONFIRMED, CORRECTED)


def rows_of(found: Iterable[Detection], saved: Iterable[Row]) -> list[Row]:
    """Return a row a detection, with what was said of it earlier; and those said of what is not detected now."""
    known = {row.key: row for row in saved}
    rows = []
    for one in found:
        row = Row(one.start_s, one.end_s, one.species, one.confidence, windows=one.windows)
        earlier = known.pop(row.key, None)
        rows.append(replace(row, verdict=earlier.verdict, species=earlier.species) if earlier else row)
    return sorted([*rows, *known.values()], key=lambda row: row.start_s)


def judged(rows: Sequence[Row], given: Any, classes: Sequence[str]) -> list[Row]:
    """Return rows with what a request says of them; of one that it does not name nothing is said any more.

    Args:
        rows: As the page was given them.
        given: A list of ``{"row": number, "verdict": word, "species": name}``.
        classes: Names that the model knows.

    Raises:
        RefusedError: If it is no such list, or a name cannot be one.
    """
    told = [replace(row, verdict=UNCHECKED, species="") for row in rows]
    if not isinstance(given, list):
        raise RefusedError("The corrections are no list.")
    for item in given:
        n = item.get("row") if isinstance(item, dict) else None
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < len(rows):
            raise RefusedError("The corrections name a row that is not there. Reload the page.")
        verdict = item.get("verdict")
        if verdict == NO_BIRD:
            told[n] = replace(rows[n], verdict=NO_BIRD, species="")
        elif verdict in (CONFIRMED, CORRECTED):
            species = rows[n].predicted if verdict == CONFIRMED else species_name(item.get("species"), classes)
            species = species or species_name(item.get("species"), classes)
            word = CONFIRMED if species == rows[n].predicted else CORRECTED
            told[n] = replace(rows[n], verdict=word, species=species)
        elif verdict != UNCHECKED:
            raise RefusedError("The corrections hold a verdict that is unknown. Reload the page.")
    return told


def species_name(text: object, classes: Sequence[str]) -> str:
    """Return a name as the model spells it, or a new one, tidied.

    Raises:
        RefusedError: If it is empty, too long, or no name.
    """
    name = " ".join(text.split()) if isinstance(text, str) else ""
    if name in classes:
        return name
    for known in classes:
        if known.casefold() == name.casefold():
            return known
    if not name:
        raise RefusedError("A corrected label is empty. Write the species, or say that there is no bird.")
    if len(name) > LONGEST_NAME:
        raise RefusedError(f"A label is longer than {LONGEST_NAME} characters. Shorten it.")
    if not name[0].isalnum() or not name.isprintable():
        raise RefusedError("A label must begin with a letter or a digit, on one line. Correct it.")
    return name
