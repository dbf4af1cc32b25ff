"""An audit without recordings: as many rows, verdicts and problems as a test of the page wants."""

import pandas as pd


def audit_of(rows: int, **columns: object) -> pd.DataFrame:
    """Return an audit of good recordings, with some columns replaced."""
    return pd.DataFrame(
        {
            "recording_id": [f"r{i:05d}" for i in range(rows)],
            "species": "wren",
            "path": "",
            "verdict": "ok",
            "problems": "",
            "reason": "",
            "duration_s": 10.0,
            "header_duration_s": 10.0,
            "native_rate_hz": 44_100,
            "channels": 1,
            "peak": 0.5,
            "rms": 0.1,
            "dc": 0.0,
            "clipped_share": 0.0,
            "silent_share": 0.0,
            "top_hz": 12_000.0,
            "mix_loss_db": 0.0,
            "audio_hash": [f"h{i}" for i in range(rows)],
        }
        | columns
    )
