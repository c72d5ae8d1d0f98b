"""The confusion matrix, against a count by hand."""

import numpy as np
import pytest

from gradloop.loops.tensorboard_log.confusion import (
    MAX_CLASSES,
    SHOWN_CLASSES,
    _abbreviated,
    confusion_counts,
    confusion_picture,
    shown_classes,
)


def test_counts():
    random = np.random.RandomState(0)
    truth, predicted = random.randint(0, 4, 50), random.randint(0, 5, 50)
    expected = np.zeros((5, 5), int)
    for one, other in zip(truth, predicted):
        expected[one, other] += 1
    np.testing.assert_array_equal(confusion_counts(truth, predicted, 5), expected)


def test_a_truth_that_is_no_class_is_not_counted():
    counts = confusion_counts(np.array([-1, 0, 3]), np.array([1, 1, 1]), 3)
    assert counts.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_of_many_classes_those_that_are_mistaken_most():
    counts = np.eye(MAX_CLASSES + 20, dtype=int) * 100
    counts[7, 9], counts[100, 3] = 5, 2
    shown = shown_classes(counts)
    assert len(shown) == SHOWN_CLASSES and {3, 7, 9, 100} <= set(shown.tolist())
    assert (np.diff(shown) > 0).all()
    assert len(shown_classes(counts[:MAX_CLASSES, :MAX_CLASSES])) == MAX_CLASSES


@pytest.mark.parametrize("classes", [2, 10, 11, 60, 300])
def test_pictures(classes):
    counts = np.eye(classes, dtype=int) * 90
    counts[1, 0] = 10
    picture = confusion_picture(counts)
    assert picture.dtype == np.uint8 and max(picture.shape) < 1000
    blue = (picture == (8, 48, 107)).all(-1).sum()  # shares of 1, on the diagonal
    side = 39 if classes <= 10 else 23 if classes <= 20 else 7
    diagonal = min(classes, SHOWN_CLASSES if classes > MAX_CLASSES else classes) - 1
    written = 2 * 5 * 3 * 4 if side > 7 else 0  # at most so many pixels of each are a number's
    assert diagonal * (side * side - written) <= blue <= diagonal * side * side + 100
    share = np.array([255, 255, 255]) - (255 - np.array([165, 15, 21])) * np.sqrt(0.1)
    assert (picture == share.astype(int)).all(-1).sum() >= side * side - written


def test_an_empty_row_is_white():
    assert (confusion_picture(np.zeros((3, 3), int))[-60:, 40:100] == 255).all()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (9999, "9999"), (12_345, "12K"), (9_999_999, "9999K"), (10**8, "100M"), (10**14, "MANY")],
)
def test_counts_are_abbreviated(count, text):
    assert _abbreviated(count) == text
