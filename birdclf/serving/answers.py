"""What the page is told, as plain values."""

import json
import math
from typing import Any

from starlette.responses import JSONResponse

from birdclf.quoting import shown
from birdclf.serving.rows import Row
from birdclf.serving.session import Entry, Session
from birdclf.serving.settings import LEAST_HOP_S, MOST_HOP_S, MOST_SPECIES, Asked


class Answer(JSONResponse):
    """JSON in which nothing can be taken for a tag, wherever it may end up."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        text = json.dumps(content, allow_nan=False, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def told_of_session(session: Session) -> dict[str, Any]:
    """Return what the page begins with."""
    hearing, limits = session.classifier.hearing, session.limits
    window_s = round(hearing.window_s, 3)
    return {
        "classes": [shown(name) for name in hearing.classes],
        "settings": _settings(Asked.read({}, window_s)),
        "least_hop": min(LEAST_HOP_S, window_s),
        "most_hop": max(MOST_HOP_S, window_s),
        "most_species": MOST_SPECIES,
        "max_bytes": limits.bytes,
        "too_large": limits.too_large.message,
        "recordings": [told_of(entry, rows=False) for entry in list(session.entries.values())],
    }


def told_of(entry: Entry, rows: bool = True) -> dict[str, Any]:
    """Return what the page shows of a recording.

    Args:
        entry: The recording.
        rows: Whether its table is wanted.
    """
    known = math.isfinite(entry.duration_s)
    told: dict[str, Any] = {
        "id": entry.id,
        "name": shown(entry.title),
        "state": entry.state,
        "problem": entry.problem,
        "duration_s": entry.duration_s if known else None,
        "heard_s": entry.heard_s,
        "version": entry.version,
        "settings": _settings(entry.asked),
    }
    if rows:
        told |= {
            "rows": [_row(row) for row in entry.rows],
            "picture_s": entry.picture_s,
            "high_hz": entry.high_hz,
        }
    return told


def _row(row: Row) -> dict[str, Any]:
    return vars(row) | {"predicted": shown(row.predicted), "species": shown(row.species)}


def _settings(asked: Asked) -> dict[str, float]:
    return {"min_confidence": asked.min_confidence, "hop": asked.hop_s, "top_k": asked.top_k}
