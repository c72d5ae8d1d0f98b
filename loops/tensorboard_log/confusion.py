"""The confusion matrix: its counts, and a picture of it."""

from __future__ import annotations

import numpy as np

from ...optim.common.types import Array
from .pictures import BLACK, GREY, WHITE, Colour, canvas, draw_text, text_width

# More classes than this are not readable side by side: then the `SHOWN_CLASSES` with most mistakes are shown.
MAX_CLASSES = 100
SHOWN_CLASSES = 50

_RIGHT, _WRONG = (8, 48, 107), (165, 15, 21)  # the colour of a share of 1; a share of 0 is white


def confusion_counts(truth: Array, predicted: Array, classes: int) -> Array:
    """The confusion matrix: examples of each true class (row) and predicted class (column), int64.

    `truth` and `predicted` are (examples,); examples whose truth is not the index of a class are not counted.
    """
    known = (truth >= 0) & (truth < classes)
    pairs = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def shown_classes(counts: Array) -> Array:
    """The classes in the picture, in order: all, or the `SHOWN_CLASSES` with most mistakes."""
    classes = len(counts)
    if classes <= MAX_CLASSES:
        return np.arange(classes)
    mistakes = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    return np.sort(np.argsort(-mistakes, kind="stable")[:SHOWN_CLASSES])


def confusion_picture(counts: Array) -> Array:
    """The confusion matrix as a picture: a row for each true class, a column for each predicted class.

    The colour of a cell is its share of the row, blue on the diagonal and red beside it; a scale is at the
    right. With up to 20 classes, the counts are written into the cells.
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
    draw_text(picture, "PREDICTED", 4, margin)
    for index, letter in enumerate("TRUE"):
        draw_text(picture, letter, top + 13 * index, 4)
    for row, name in enumerate(names):
        offset = row * side + (side - 5 * size) // 2
        draw_text(picture, name, top + offset, margin - 4 - text_width(name, size), BLACK, size)
        for index, digit in enumerate(name):  # upright, as columns are narrow
            low = top - 2 - (len(name) - index) * 6 * size
            draw_text(picture, digit, low, margin + row * side + (side - 3 * size) // 2, BLACK, size)
        for column in range(len(names)):
            up, left = top + row * side, margin + column * side
            share = float(shares[row, column])
            picture[up : up + side - 1, left : left + side - 1] = _colour(share, row == column)
            if side > 8 and counts[row, column]:
                text = _abbreviated(int(counts[row, column]))
                middle = left + (side - text_width(text, size)) // 2
                colour = WHITE if share > 0.3 else BLACK
                draw_text(picture, text, up + (side - 5 * size) // 2, middle, colour, size)
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
        draw_text(picture, f"{percent}%", min(max(line - 5, top), top + height - 10), left + 31)


def _colour(share: float, right: bool) -> Colour:
    # The square root keeps the few mistakes of a good network visible.
    full = np.array(_RIGHT if right else _WRONG)
    red, green, blue = (255 - (255 - full) * share**0.5).astype(int).tolist()
    return red, green, blue


def _abbreviated(count: int) -> str:
    """At most four characters: 1234, 12K, 3M."""
    for limit, unit, letter in ((10_000, 1, ""), (10_000_000, 1000, "K"), (10**13, 10**6, "M")):
        if count < limit:
            return f"{count // unit}{letter}"
    return "MANY"
