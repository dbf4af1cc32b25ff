from birdclf.report.document import Number, Table


def test_a_column_is_numeric_if_it_holds_numbers_and_gaps_only():
    rows = (("a", Number(1, "1"), ""), ("b", "", ""), ("c", Number(2, "2"), "x"))
    table = Table("", ("name", "n", "note"), rows)
    assert [table.numeric(i) for i in range(3)] == [False, True, False]
