"""What validation and test recordings share with training recordings, so that a score can be judged by it."""

import pandas as pd

LEAKS = {
    "recordist": "share a recordist",
    "audio": "share the decoded audio",
    "recordist_and_day": "share recordist and day",
}


def leak_report(table: pd.DataFrame) -> pd.DataFrame:
    """Count the validation and test recordings that share something with a training recording.

    An empty group, hash or date is shared with nobody, nor is a date without a day (``2010-06-00``).

    Args:
        table: One row a recording with ``split`` (train, val or test) and, as far as known, ``group`` (recordist or
            individual), ``audio_hash`` (of the decoded sound) and ``date`` (which begins with the day).

    Returns:
        One row a stage (val, test) and leak: ``split``, ``leak`` (``recordist``, ``audio``, ``recordist_and_day``),
        ``recordings`` (in the stage), ``known`` (those with the value at all), ``shared`` (with a training recording)
        and ``share`` (``shared / recordings``; 0 for an empty stage). A leak whose column is absent has no row.

    Raises:
        KeyError: If the table has no column ``split``.
    """
    rows = []
    values = _values(table)
    for stage in ("val", "test"):
        inside = table["split"] == stage
        for leak, value in values.items():
            shared = int(value[inside].isin(value[table["split"] == "train"].dropna().unique()).sum())
            recordings = int(inside.sum())
            rows.append(
                (stage, leak, recordings, int(value[inside].notna().sum()), shared, shared / max(recordings, 1))
            )
    return pd.DataFrame(rows, columns=["split", "leak", "recordings", "known", "shared", "share"])


def describe(report: pd.DataFrame) -> str:
    """Return a leak report in a sentence or two, for the log.

    Args:
        report: What :func:`leak_report` returned.
    """
    told = report[report.groupby("leak").known.transform("sum") > 0]
    if told.empty:
        return "leaks: cannot be told, since no recording has a recordist (group) or an audio hash"
    sentences = []
    for stage in ("test", "val"):
        rows = told[told.split == stage]
        parts = [
            f"{row.shared:,} ({row.share:.1%}) {LEAKS[str(row.leak)]}"
            for row in rows.sort_values("leak", key=lambda leak: leak.map(list(LEAKS).index)).itertuples()
        ]
        sentences.append(f"of {rows.recordings.iloc[0]:,} {stage} recordings, {', '.join(parts)} with a training one")
    return "leaks: " + "; ".join(sentences)


def _values(table: pd.DataFrame) -> "dict[str, pd.Series[int]]":
    """Return a number for what a recording may share, missing where it is not known."""
    values = {}
    if "group" in table.columns:
        values["recordist"] = _numbers(table.group)
    if "audio_hash" in table.columns:
        values["audio"] = _numbers(table.audio_hash)
    if "group" in table.columns and "date" in table.columns:
        day = table.date.astype("string").str.strip().str[:10]
        known = day.str.contains("[1-9]", regex=True).fillna(False) & ~day.str.endswith("-00").fillna(False)
        group, number = values["recordist"], _numbers(day.where(known))
        values["recordist_and_day"] = group * (int(number.max()) + 1 if number.notna().any() else 1) + number
    return values


def _numbers(column: "pd.Series[str]") -> "pd.Series[int]":
    text = column.astype("string").str.strip()
    codes = pd.factorize(text.where(text.fillna("") != ""))[0]
    return pd.Series(codes, index=column.index).astype("Int64").where(codes >= 0)
