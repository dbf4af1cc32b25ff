import pytest

from birdclf.report import document as wording


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (list("abcdefgh"), "a, b, c, d, e, f and 2 more"),
    ],
)
def test_names_in_a_sentence(names, said):
    assert wording.listed(names) == said


def test_numbers():
    assert wording.share(0.4272) == "42.7\N{NO-BREAK SPACE}%"
    assert wording.points(-0.011) == "-1.1 points"
    assert (wording.p_value(0.0004), wording.p_value(0.03)) == ("p < 0.001", "p = 0.030")
    assert wording.p_number(float("nan")).text == ""
    assert wording.number(None) == "" == wording.number(float("nan"))
    assert (wording.counted(1, "run"), wording.counted(2, "run")) == ("1 run", "2 runs")
