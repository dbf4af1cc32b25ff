import math
import re
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from birdclf.audit.measure import SILENCE, Measurement
from birdclf.audit.rules import COLUMNS, UNREADABLE, VERDICT_OF, VERDICTS, Rules
from birdclf.errors import UserError

DEFAULT = yaml.safe_load((Path(__file__).parents[2] / "conf" / "audit" / "default.yaml").read_text())
GOOD = Measurement(
    duration_s=10.0,
    header_duration_s=10.0,
    native_rate_hz=44_100,
    channels=2,
    peak=0.5,
    rms=0.1,
    dc=0.0,
    clipped_share=0.0,
    silent_share=0.1,
    mix_loss_db=0.0,
    top_hz=12_000.0,
)


def row(recording_id: str, species: str = "wren", path: str | None = None, **measured: object) -> dict[str, object]:
    """Return a good recording with a sound of its own, but for what is given."""
    place = {"start_s": 0.0, "end_s": math.inf} | {k: measured.pop(k) for k in ("start_s", "end_s") if k in measured}
    names = {"recording_id": recording_id, "species": species, "path": f"/{recording_id}" if path is None else path}
    return {**names, **place, **asdict(GOOD), "audio_hash": f"hash of {recording_id}", **measured}


def judged(*rows: dict[str, object], rules: Rules | None = None) -> pd.DataFrame:
    """Return the audit of some rows, by id."""
    both = pd.DataFrame(rows)
    table = both[["recording_id", "species", "path", "start_s", "end_s"]]
    measured = both.drop(columns=["species", "path", "start_s", "end_s"])
    return (rules or Rules()).judge(measured, table).set_index("recording_id", drop=False)


def test_a_file_that_goes_on_is_used_with_a_warning():
    audit = judged(row("a"), row("b", goes_on="continues for 9 bytes after the decoded part"))
    assert audit.problems.to_dict() == {"a": "", "b": "goes_on"} and audit.verdict["b"] == "warn"
    assert audit.reason["b"] == "continues for 9 bytes after the decoded part"


def problems(*rows: dict[str, object], rules: Rules | None = None) -> dict[str, str]:
    return judged(*rows, rules=rules).problems.to_dict()


def test_a_good_recording_is_ok():
    audit = judged(row("a"), row("b"))
    assert tuple(audit.columns) == COLUMNS
    assert audit.recording_id.tolist() == ["a", "b"]
    assert set(audit.verdict) == {"ok"} and set(audit.problems) == set(audit.reason) == {""}
    assert audit.loc["a", "audio_hash"] == "hash of a" and audit.loc["a", "native_rate_hz"] == 44_100


def test_the_configuration_holds_the_defaults_and_every_verdict_that_can_be_chosen():
    rules = Rules()
    assert {name: DEFAULT[name] for name in asdict(rules) if name != "verdicts"} == {
        name: value for name, value in asdict(rules).items() if name != "verdicts"
    }
    assert DEFAULT["verdicts"] == {name: v for name, v in VERDICT_OF.items() if name not in UNREADABLE}


LIMITS = [  # problem, measurement, its limit, a step beyond it, what the reason says of a value beyond it
    ("too_short", "duration_s", DEFAULT["min_duration_s"], -1e-6, r"is 0\.30 s long, .*audit\.min_duration_s=0\.3"),
    ("mostly_silent", "silent_share", DEFAULT["max_silent_share"], 0.01, "is silent for 51%"),
    ("quiet", "peak", DEFAULT["min_peak"], -1e-5, "peak is 0.00299"),
    ("clipped", "clipped_share", DEFAULT["max_clipped_share"], 0.001, r"is clipped in 1\.1%"),
    ("dc", "dc", DEFAULT["max_dc"], 0.001, r"offset of 0\.021"),
    ("dc", "dc", -DEFAULT["max_dc"], -0.001, r"offset of -0\.021"),
    ("out_of_phase", "mix_loss_db", DEFAULT["max_mix_loss_db"], 1.0, "loses 11 dB"),
    ("low_rate", "native_rate_hz", DEFAULT["min_rate_hz"], -1, "rate of 15,999 Hz"),
    ("narrow_band", "top_hz", DEFAULT["min_top_hz"], -1.0, "above 3,999 Hz"),
    ("header_lies", "header_duration_s", 10 + DEFAULT["max_header_error_s"], 0.01, r"lasts 10\.00 s, .* 10\.51 s"),
    ("header_lies", "header_duration_s", 10 - DEFAULT["max_header_error_s"], -0.01, r"lasts 10\.00 s, .* 9\.49 s"),
]


@pytest.mark.parametrize(
    ("problem", "column", "limit", "step", "words"), LIMITS, ids=[f"{a}-{c}" for a, _, c, *_ in LIMITS]
)
def test_a_problem_begins_beyond_its_limit(problem, column, limit, step, words):
    same = {"header_duration_s": math.nan} if column == "duration_s" else {}
    audit = judged(row("at", **{column: limit, **same}), row("beyond", **{column: limit + step, **same}))
    assert audit.problems.to_dict() == {"at": "", "beyond": problem}
    assert audit.verdict.to_dict() == {"at": "ok", "beyond": DEFAULT["verdicts"][problem]}
    assert re.search(words, audit.reason["beyond"]), audit.reason["beyond"]


def test_silence_is_only_silent():
    silence = {"silent_share": 1.0, "mix_loss_db": math.nan, "top_hz": math.nan}
    audit = judged(row("at", peak=SILENCE, silent_share=0.0), row("below", peak=SILENCE * 0.99, **silence))
    assert audit.problems.to_dict() == {"at": "quiet", "below": "silent"}
    assert audit.verdict["below"] == "reject" and "silent" in audit.reason["below"]


def test_what_is_not_known_is_no_problem():
    unknown = ("header_duration_s", "mix_loss_db", "top_hz", "dc", "clipped_share", "silent_share")
    assert problems(row("a", **dict.fromkeys(unknown, math.nan))) == {"a": ""}


@pytest.mark.parametrize("error", UNREADABLE)
def test_what_could_not_be_read_is_rejected_for_that_alone(error):
    audit = judged(row("a", error=error, reason="has a reason", duration_s=0.0, dc=1.0), row("b"))
    assert audit.loc["a", ["verdict", "problems", "reason"]].tolist() == ["reject", error, "has a reason"]
    assert audit.verdict["b"] == "ok"


def test_the_worst_verdict_wins_and_every_problem_is_named():
    audit = judged(row("a", duration_s=0.2, header_duration_s=0.2, dc=0.5), row("b", dc=0.5, top_hz=100.0))
    assert audit.problems.to_dict() == {"a": "too_short dc", "b": "dc narrow_band"}
    assert audit.verdict.to_dict() == {"a": "reject", "b": "warn"}
    assert audit.reason["b"] == "has an offset of 0.500; has no energy above 100 Hz"


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_verdict_can_be_chosen(verdict):
    audit = judged(row("a", dc=0.5), rules=Rules(verdicts={"dc": verdict}))
    assert audit.loc["a", ["verdict", "problems"]].tolist() == [verdict, "dc"]


def test_a_limit_can_be_chosen():
    rows = row("a", duration_s=2.0, header_duration_s=2.0, native_rate_hz=8_000)
    assert problems(rows, rules=Rules(min_duration_s=2.5, min_rate_hz=8_000)) == {"a": "too_short"}


# Repeats.


def test_of_equal_recordings_the_first_by_id_stays():
    audit = judged(row("b", audio_hash="x"), row("c", audio_hash="x"), row("a", audio_hash="x"))
    assert audit.problems.to_dict() == {"a": "", "b": "duplicate", "c": "duplicate"}
    assert audit.verdict.to_dict() == {"a": "ok", "b": "reject", "c": "reject"}
    assert audit.reason["b"] == audit.reason["c"] == "is the same sound as a"


def test_of_equal_recordings_with_different_labels_none_stays():
    audit = judged(
        row("a", "wren", audio_hash="x"), row("b", "wren", audio_hash="x"), row("c", "crane", audio_hash="x")
    )
    assert set(audit.problems) == {"conflicting_duplicate"} and set(audit.verdict) == {"reject"}
    assert audit.reason["a"] == "is the same sound as c, labelled crane"
    assert audit.reason["c"] == "is the same sound as a, labelled wren"


STRETCH = {"path": "/x.wav", "start_s": 1.0, "end_s": 4.0, "audio_hash": "x"}


def test_several_labels_on_one_stretch_are_used_with_a_warning():
    audit = judged(row("a", "wren", **STRETCH), row("b", "crane", **STRETCH), row("c", "crane", **STRETCH))
    assert audit.problems.to_dict() == {"a": "several_labels", "b": "several_labels", "c": "duplicate"}
    assert audit.verdict.to_dict() == {"a": "warn", "b": "warn", "c": "reject"}
    assert audit.reason["a"] == "is the same interval as b, labelled crane"
    assert audit.reason["c"] == "is the same sound as b"


@pytest.mark.parametrize("other", [{"path": "/y.wav"}, {"start_s": 0.5}, {"end_s": 4.5}])
def test_equal_sound_elsewhere_is_not_one_stretch(other):
    rows = row("a", "wren", **STRETCH), row("b", "crane", **{**STRETCH, **other})
    assert set(problems(*rows).values()) == {"conflicting_duplicate"}


def test_procedural_sound_is_never_one_stretch():
    rows = row("a", "wren", path="", audio_hash="x"), row("b", "crane", path="", audio_hash="x")
    assert set(problems(*rows).values()) == {"conflicting_duplicate"}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"error": "undecodable", "reason": "cannot be decoded"},
        {"error": "not_finite", "reason": "is not finite"},
        {"duration_s": 0.1, "header_duration_s": 0.1},
        {"peak": 0.0},
    ],
    ids=["undecodable", "not finite", "too short", "silent"],
)
@pytest.mark.parametrize("species", ["wren", "crane"])
def test_what_is_rejected_anyway_repeats_nothing(spoilt, species):
    audit = judged(row("a", audio_hash="x", **spoilt), row("b", species, audio_hash="x"))
    assert audit.verdict.to_dict() == {"a": "reject", "b": "ok"}
    assert audit.problems["b"] == "" and "duplicate" not in audit.problems["a"]


@pytest.mark.parametrize("verdict", ["ok", "warn"])
def test_silence_that_is_let_through_repeats_nothing(verdict):
    rows = row("a", "wren", audio_hash="x", peak=0.0), row("b", "crane", audio_hash="x", peak=0.0)
    assert problems(*rows, rules=Rules(verdicts={"silent": verdict})) == {"a": "silent", "b": "silent"}


def test_recordings_that_could_not_be_hashed_repeat_nothing():
    lost = {"error": "undecodable", "reason": "cannot be decoded", "audio_hash": ""}
    assert problems(row("a", "wren", **lost), row("b", "crane", **lost)) == dict.fromkeys("ab", "undecodable")


def test_a_duplicate_can_be_let_through():
    rows = row("a", audio_hash="x"), row("b", audio_hash="x")
    assert set(judged(*rows, rules=Rules(verdicts={"duplicate": "ok"})).verdict) == {"ok"}


SOUNDS = st.lists(
    st.tuples(
        st.sampled_from("xyz"), st.sampled_from(["wren", "crane"]), st.sampled_from(["", "/1", "/2"]), st.booleans()
    ),
    min_size=1,
    max_size=10,
)


@given(sounds=SOUNDS, seed=st.integers(0, 100))
def test_the_order_of_rows_changes_nothing(sounds, seed):
    rows = [
        row(f"r{n}", species, path=path, audio_hash=sound, dc=0.5 * off)
        for n, (sound, species, path, off) in enumerate(sounds)
    ]
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    pd.testing.assert_frame_equal(judged(*rows), judged(*shuffled).loc[[f"r{n}" for n in range(len(rows))]])


def test_the_index_of_the_tables_changes_nothing():
    both = pd.DataFrame([row("a"), row("b", dc=0.5)], index=[7, 3])
    table = both[["recording_id", "species", "path", "start_s", "end_s"]]
    audit = Rules().judge(both.drop(columns=["species", "path", "start_s", "end_s"]), table.set_index(pd.Index([5, 5])))
    assert audit.problems.tolist() == ["", "dc"]


@pytest.mark.slow
def test_200_000_recordings_are_judged_in_seconds():
    n, rng = 200_000, np.random.default_rng(0)
    ids = [f"r{i:06d}" for i in range(n)]
    table = pd.DataFrame(
        {"recording_id": ids, "species": rng.choice(["wren", "crane", "owl"], n), "path": ids, "start_s": 0.0}
    ).assign(end_s=math.inf)
    measured = (
        pd.DataFrame([asdict(GOOD)])
        .loc[[0] * n]
        .assign(
            recording_id=ids,
            audio_hash=[f"{h:06d}" for h in rng.integers(0, 2 * n, n)],  # four in ten have a twin
            dc=rng.uniform(-0.025, 0.025, n),
            peak=rng.choice([0.0, 0.5], n, p=[0.01, 0.99]),
        )
    )
    began = time.perf_counter()
    audit = Rules().judge(measured, table)
    assert time.perf_counter() - began < 30
    assert audit.recording_id.tolist() == ids
    twins = audit[audit.problems.str.contains("duplicate")]
    assert 50_000 < len(twins) < 100_000
    assert (audit.problems.str.contains("silent") == (measured.peak == 0).to_numpy()).all()


# Mistakes.


@pytest.mark.parametrize("name", [name for name in asdict(Rules()) if name != "verdicts"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "loud", None])
def test_a_wrong_limit_is_refused(name, value):
    with pytest.raises(UserError, match=rf"audit\.{name} is {value!r}; it must be a number of 0 or more"):
        Rules(**{name: value})


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ({"typo": "warn"}, r"audit\.verdicts\.typo: there is no such problem. There are undecodable, .*narrow_band"),
        ({"clipped": "maybe"}, r"audit\.verdicts\.clipped is 'maybe'; it must be one of ok, warn, reject"),
        ({"clipped": None}, r"audit\.verdicts\.clipped is None"),
        *[({name: "warn"}, rf"audit\.verdicts\.{name} is 'warn'.*only be 'reject'") for name in UNREADABLE],
    ],
)
def test_a_wrong_verdict_is_refused(verdicts, words):
    with pytest.raises(UserError, match=words):
        Rules(verdicts=verdicts)


@pytest.mark.parametrize("verdicts", ["reject", None, ["clipped"]])
def test_verdicts_that_name_no_problem_are_refused(verdicts):
    with pytest.raises(UserError, match="audit.verdicts is .*; name a problem"):
        Rules(verdicts=verdicts)


def test_the_verdict_on_the_unreadable_can_be_set():
    assert Rules(verdicts={"undecodable": "reject"}).verdict("undecodable") == "reject"


def test_a_label_that_ends_after_its_recording_is_a_warning():
    limit_s = DEFAULT["max_overrun_s"]
    audit = judged(
        row("at", start_s=2.0, end_s=12.0 + limit_s),
        row("beyond", start_s=3.5, end_s=13.5 + limit_s + 995.0),
        row("whole"),
        row("inside", start_s=2.0, end_s=12.0),
    )
    assert audit.problems.to_dict() == {"at": "", "beyond": "beyond_end", "whole": "", "inside": ""}
    assert audit.verdict["beyond"] == "warn"
    assert audit.reason["beyond"] == "has a label that ends 996.0 s after the recording"
    assert problems(row("a", end_s=11.5), rules=Rules(max_overrun_s=2.0)) == {"a": ""}


@pytest.mark.parametrize(
    ("start_s", "words"), [(1000.0, "is empty: its label begins 998.0 s after the recording ends"), (1.0, "is empty")]
)
def test_an_empty_stretch_says_how_far_it_lies_beyond_its_recording(tmp_path, tone, start_s, words):
    path = str(tone(tmp_path / "a.wav", seconds=2.0))
    empty = {"error": "empty", "reason": "is empty", "duration_s": 0.0, "start_s": start_s, "end_s": 2000.0}
    audit = judged(row("a", path=path, **empty), row("gone", path=str(tmp_path / "gone.wav"), **empty))
    assert audit.reason.to_dict() == {"a": words, "gone": "is empty"}
    assert set(audit.problems) == {"empty"} and set(audit.verdict) == {"reject"}
