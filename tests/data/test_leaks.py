import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdclf.data.module import describe, leak_report

PLANTED = pd.DataFrame(
    [
        ("train", "ada", "h1", "2020-05-01"),
        ("train", "ada", "h2", "2020-05-02"),
        ("train", "bo", "h3", "2020-05-00"),
        ("train", "", "", ""),
        ("val", "ada", "h4", "2020-05-03"),  # the recordist
        ("val", "cy", "h1", "2020-05-01"),  # the sound; the day of another recordist
        ("test", "ada", "h2", "2020-05-02"),  # all three
        ("test", "bo", "h5", "2020-05-00"),  # the recordist, on a day that is not known
        ("test", "", "", ""),  # nothing
        ("test", "dee", "h6", "2020-05-01"),  # nothing
    ],
    columns=["split", "group", "audio_hash", "date"],
)


def shared(report: pd.DataFrame) -> dict[tuple[str, str], int]:
    return {(row.split, row.leak): row.shared for row in report.itertuples()}


def test_planted_leaks_are_counted():
    report = leak_report(PLANTED)
    assert shared(report) == {
        ("val", "recordist"): 1,
        ("val", "audio"): 1,
        ("val", "recordist_and_day"): 0,
        ("test", "recordist"): 2,
        ("test", "audio"): 1,
        ("test", "recordist_and_day"): 1,
    }
    test = report[report.split == "test"].set_index("leak")
    assert test.recordings.tolist() == [4, 4, 4] and test.share.tolist() == [0.5, 0.25, 0.25]
    assert test.known.to_dict() == {"recordist": 3, "audio": 3, "recordist_and_day": 2}


def test_what_the_table_does_not_have_is_not_reported():
    assert set(leak_report(PLANTED[["split", "group"]]).leak) == {"recordist"}
    assert set(leak_report(PLANTED[["split", "audio_hash", "date"]]).leak) == {"audio"}
    assert leak_report(PLANTED[["split"]]).empty


def test_missing_values_are_not_shared():
    gone = PLANTED.replace("", None)
    assert shared(leak_report(gone)) == shared(leak_report(PLANTED))


def test_times_of_day_do_not_hide_a_day():
    timed = PLANTED.assign(date=pd.to_datetime("2020-05-02") + pd.to_timedelta(range(len(PLANTED)), unit="min"))
    assert shared(leak_report(timed))["test", "recordist_and_day"] == 2


@given(
    st.lists(st.tuples(st.sampled_from(["train", "val", "test"]), st.integers(0, 3), st.integers(0, 3)), max_size=30)
)
def test_counts_agree_with_a_plain_loop(rows):
    table = pd.DataFrame(rows, columns=["split", "who", "day"])
    table = table.assign(
        group=table.who.map({0: "", 1: "a", 2: "b", 3: "c"}),
        date=table.day.map({0: "", 1: "2021-01-01", 2: "2021-01-02", 3: "2021-01-03"}),
    )
    report = shared(leak_report(table))
    train = [(w, d) for s, w, d in rows if s == "train"]
    for stage in ("val", "test"):
        inside = [(w, d) for s, w, d in rows if s == stage]
        assert report[stage, "recordist"] == sum(w > 0 and w in {t for t, _ in train} for w, _ in inside)
        assert report[stage, "recordist_and_day"] == sum(w > 0 and d > 0 and (w, d) in train for w, d in inside)


def test_the_sentence_says_how_many():
    assert describe(leak_report(PLANTED)) == (
        "leaks: of 4 test recordings, 2 (50.0%) share a recordist, 1 (25.0%) share the decoded audio, 1 (25.0%) share "
        "recordist and day with a training one; of 2 val recordings, 1 (50.0%) share a recordist, 1 (50.0%) share the "
        "decoded audio, 0 (0.0%) share recordist and day with a training one"
    )


@pytest.mark.parametrize("columns", [["split"], ["split", "group"]])
def test_the_sentence_says_when_nothing_is_known(columns):
    assert "unknown" in describe(leak_report(PLANTED.assign(group="")[columns]))
