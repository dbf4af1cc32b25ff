import numpy as np

from birdclf.report.sections.species import clustered_order, confused_pairs, matrix_figure, most_confused_with

#                      a  b  c  d  e (never seen)
CONFUSION = np.array([[5, 0, 4, 0, 0], [0, 8, 0, 1, 0], [3, 0, 6, 0, 1], [0, 2, 0, 2, 0], [0, 0, 0, 0, 0]])


def test_pairs_come_by_clips_then_by_share():
    pairs = confused_pairs(CONFUSION, most=3)
    assert [(p.truth, p.predicted, p.clips) for p in pairs] == [(0, 2, 4), (2, 0, 3), (3, 1, 2)]
    assert pairs[2].share == 0.5


def test_each_species_has_the_one_it_is_taken_for_most():
    found = [pair.predicted if pair else None for pair in most_confused_with(CONFUSION)]
    assert found == [2, 3, 0, 1, None]


def test_what_is_confused_lies_side_by_side_and_what_is_absent_last():
    order = list(clustered_order(CONFUSION))
    assert sorted(order) == [0, 1, 2, 3, 4] and order[-1] == 4
    assert abs(order.index(0) - order.index(2)) == abs(order.index(1) - order.index(3)) == 1


def test_the_drawing_has_a_square_a_cell_that_is_not_empty():
    figure = matrix_figure(CONFUSION, ("a", "b", "c", "<d>", "e"))
    assert figure.svg.count("<title>") == (CONFUSION > 0).sum()
    assert "a named c: 4 of 9" in figure.svg and "<d>" not in figure.svg


def test_two_species_need_no_clusters():
    assert list(clustered_order(np.array([[0, 1], [0, 0]]))) == [0, 1]
