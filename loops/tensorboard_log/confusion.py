"""Which classes are taken for which: counted, and as a picture."""

from __future__ import annotations

import numpy as np

from ...optim.common.types import Array
from .pictures import BLACK, GREY, WHITE, Colour, canvas, text_width, write

# More classes than this are not readable side by side: then those that are mistaken most often are shown.
MOST_CLASSES = 100
SHOWN_OF_MANY = 50

_RIGHT, _WRONG = (8, 48, 107), (165, 15, 21)  # of a share of 1; white is 0


def confusion_counts(truth: Array, predicted: Array, classes: int) -> Array:
    """How many examples of each true class (row) were taken for each class (column): int64.

    `truth` and `predicted` are (examples,); an example whose truth is no index of a class counts nothing.
    """
    known = (truth >= 0) & (truth < classes)
    pairs = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def shown_classes(counts: Array) -> Array:
    """The classes in the picture: all, or of very many those that are mistaken most often, in order."""
    classes = len(counts)
    if classes <= MOST_CLASSES:
        return np.arange(classes)
    mistakes = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    return np.sort(np.argsort(-mistakes, kind="stable")[:SHOWN_OF_MANY])


def confusion_picture(counts: Array) -> Array:
    """The matrix as a picture: a row for each true class, a column for each that was predicted.

    The colour is the share of the row, blue on the diagonal and red beside it, with its scale at the right;
    with up to 20 classes the counts are written into the cells.
    """
    shown = shown_classes(counts)
    shares = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[np.ix_(shown, shown)]
    counts = counts[np.ix_(shown, shown)]
    side = 40 if len(shown) <= 10 else 24 if len(shown) <= 20 else 8
    size = 2 if side == 40 else 1
    names = [str(number) for number in shown]
    margin = 20 + max(text_width(name, size) for name in names) + 4
    top = 20 + max(len(name) for name in names) * 6 * size + 2
    edge = max(side * len(shown), 120)
    picture = canvas(top + edge + 6, margin + edge + 90)
    write(picture, "PREDICTED", 4, margin)
    for index, letter in enumerate("TRUE"):
        write(picture, letter, top + 13 * index, 4)
    for row, name in enumerate(names):
        place = row * side + (side - 5 * size) // 2
        write(picture, name, top + place, margin - 4 - text_width(name, size), BLACK, size)
        for index, digit in enumerate(name):  # upright, as columns are narrow
            low = top - 2 - (len(name) - index) * 6 * size
            write(picture, digit, low, margin + row * side + (side - 3 * size) // 2, BLACK, size)
        for column in range(len(names)):
            up, left = top + row * side, margin + column * side
            share = float(shares[row, column])
            picture[up : up + side - 1, left : left + side - 1] = _colour(share, row == column)
            if side > 8 and counts[row, column]:
                text = _short(int(counts[row, column]))
                middle = left + (side - text_width(text, size)) // 2
                colour = WHITE if share > 0.3 else BLACK
                write(picture, text, up + (side - 5 * size) // 2, middle, colour, size)
    _draw_scale(picture, top, margin + edge + 14, min(edge, 200))
    return picture


def _draw_scale(picture: Array, top: int, left: int, height: int) -> None:
    for line in range(height):
        share = 1 - line / (height - 1)
        picture[top + line, left : left + 12] = _colour(share, right=True)
        picture[top + line, left + 13 : left + 25] = _colour(share, right=False)
    for percent in (0, 25, 50, 75, 100):
        line = top + round((1 - percent / 100) * (height - 1))
        picture[line, left : left + 28] = GREY
        write(picture, f"{percent}%", min(max(line - 5, top), top + height - 10), left + 31)


def _colour(share: float, right: bool) -> Colour:
    # By the root, so that the few mistakes of a good network still show.
    full = np.array(_RIGHT if right else _WRONG)
    red, green, blue = (255 - (255 - full) * share**0.5).astype(int).tolist()
    return red, green, blue


def _short(count: int) -> str:
    """At most four characters: 1234, 12K, 3M."""
    for limit, unit, letter in ((10_000, 1, ""), (10_000_000, 1000, "K"), (10**13, 10**6, "M")):
        if count < limit:
            return f"{count // unit}{letter}"
    return "MANY"
