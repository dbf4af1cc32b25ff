"""Checks of single values: a whole number, a number in a range, a choice."""

import pytest

from birdclf.checks import above, choice, in_range, is_number, is_whole, most_processes, whole
from birdclf.errors import UserError

NO_NUMBERS = [True, False, None, "3", [], {}, float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_in_no_range(value):
    assert not is_number(value) and not is_whole(value)
    for check in (whole, in_range, above):
        with pytest.raises(UserError, match="a.key is"):
            check("a.key", value, -10)


@pytest.mark.parametrize(
    ("check", "taken", "refused", "words"),
    [
        (lambda v: whole("k", v, 1), [1, 7], [0, 1.0, 2.5], "a whole number of 1 or more"),
        (lambda v: whole("k", v, 0, 4), [0, 4], [-1, 5], "a whole number from 0 to 4"),
        (lambda v: in_range("k", v, 0), [0, 0.5, 1e9], [-1e-9], "a number of 0 or more"),
        (lambda v: in_range("k", v, 0, 1), [0, 1], [1.01], "a number between 0 and 1"),
        (lambda v: above("k", v, 0), [1e-9], [0, -1], "a number above 0"),
        (lambda v: above("k", v, 0, 1), [1], [0, 1.5], "above 0, and at most 1"),
        (lambda v: choice("k", v, ("a", "b")), ["a", "b"], ["c", None, 1, True, ["a"]], "one of a, b"),
    ],
)
def test_limits(check, taken, refused, words):
    assert [check(value) for value in taken] == taken
    for value in refused:
        with pytest.raises(UserError, match=words) as error:
            check(value)
        assert repr(value) in str(error.value)


def test_some_processes_are_always_borne():
    assert most_processes() >= 16
