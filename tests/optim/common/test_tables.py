"""Plain-text tables."""

from gradloop.optim.common.tables import align_columns


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [["name", "count", "state"], ["a", "1,000", "frozen"], ["longer", "2", ""]]
    assert align_columns(rows, right=(1,)) == [
        "name    count  state",
        "a       1,000  frozen",
        "longer      2",
    ]


def test_left_by_default():
    assert align_columns([["1", "x"], ["22", "y"]]) == ["1   x", "22  y"]
