"""Pictures drawn with NumPy: images, captions, frames and grids, encoded as PNG.

So neither Pillow nor Matplotlib is needed. A picture is uint8, (height, width, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from ...optim.common.types import Array

Colour: TypeAlias = tuple[int, int, int]

WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (120, 120, 120)
GREEN, RED = (40, 160, 60), (214, 39, 40)

# A font of 3 x 5 pixels: each character is five octal digits, one a row, whose bits are the pixels.
_GLYPHS = {
    **dict(zip("0123456789", "75557 26227 71747 71717 55711 74717 74757 71244 75757 75717".split())),
    **dict(zip("ABCDEFGHI", "25755 65656 34443 65556 74647 74644 34553 55755 72227".split())),
    **dict(zip("JKLMNOPQR", "11152 55655 44447 57755 65555 25552 65644 25563 65655".split())),
    **dict(zip("STUVWXYZ", "34216 72222 55557 55552 55775 55255 55222 71247".split())),
    **dict(zip(".-+>%:/?", "00002 00700 02720 42124 51245 02020 11244 61202".split())),
}


class Scale(NamedTuple):
    """The range of values that is mapped to 0 to 255."""

    low: Array  # mapped to 0, (channels,)
    high: Array  # mapped to 255, (channels,)
    description: str  # the same, in words

    @classmethod
    def of(cls, images: Array) -> Scale:
        """The scale for images, (examples, height, width, channels), by the range of their values.

        Values within 0 to 1, 0 to 255 or -1 to 1 keep that range. Others are stretched, each channel from its
        lowest to its highest value, with which standardised images look natural.
        """
        values = images[np.isfinite(images)] if images.dtype.kind == "f" else images
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        channels = images.shape[-1]
        whole = images.dtype.kind in "iu"
        for bottom, top in ((0, 255),) if whole else ((0, 1), (0, 255), (-1, 1)):
            if bottom <= low and high <= top:
                ends = np.full(channels, bottom, float), np.full(channels, top, float)
                return cls(*ends, f"Values from {bottom} to {top}.")
        by_channel = images.reshape(-1, channels).astype(float)
        by_channel = np.where(np.isfinite(by_channel), by_channel, low)
        lows, highs = by_channel.min(0), by_channel.max(0)
        stretched = "each channel stretched from its lowest to its highest"
        words = f"Values from {low:.3g} to {high:.3g}, {stretched}."
        return cls(lows, np.maximum(highs, lows + 1e-12), words)

    def picture(self, image: Array) -> Array:
        """An image, (height, width, 1, 3 or 4), as a picture; NaN becomes black, transparent pixels white."""
        values = (np.nan_to_num(image.astype(float)) - self.low) / (self.high - self.low)
        values = np.clip(values, 0, 1)
        if values.shape[-1] == 4:
            values = values[..., :3] * values[..., 3:] + 1 - values[..., 3:]
        shape = (*values.shape[:2], 3)
        return np.asarray(np.broadcast_to(np.rint(values * 255).astype(np.uint8), shape))


def resized(picture: Array, side: int) -> Array:
    """A picture whose longer side is about `side`: pixels are repeated, or blocks of them averaged."""
    longer = max(picture.shape[:2])
    if longer <= side:
        return picture.repeat(side // longer, 0).repeat(side // longer, 1)
    factor = longer // side
    height, width = (max(size // factor, 1) for size in picture.shape[:2])
    rows, columns = min(factor, picture.shape[0]), min(factor, picture.shape[1])
    cut = picture[: height * rows, : width * columns].reshape(height, rows, width, columns, 3)
    return cut.mean((1, 3)).astype(np.uint8)


def canvas(height: int, width: int, colour: Colour = WHITE) -> Array:
    """An empty picture."""
    return np.full((height, width, 3), colour, np.uint8)


def draw_text(picture: Array, text: str, top: int, left: int, colour: Colour = BLACK, size: int = 2) -> None:
    """Draws digits, capitals and `.-+>%:/?` into a picture; what does not fit is cut off.

    A character is `3 * size` pixels wide and `5 * size` high, with a gap of `size` to the next.
    """
    for character in text.upper():
        rows = [int(row) for row in _GLYPHS.get(character, "00000")]
        dots = np.array([[row >> bit & 1 for bit in (2, 1, 0)] for row in rows], bool)
        dots = dots.repeat(size, 0).repeat(size, 1)
        target = picture[top : top + 5 * size, left : left + 3 * size]
        target[dots[: target.shape[0], : target.shape[1]]] = colour
        left += 4 * size


def text_width(text: str, size: int = 2) -> int:
    """The width of a text that `draw_text` draws, in pixels."""
    return max(4 * len(text) - 1, 0) * size


def tile(picture: Array, caption: str, frame: Colour | None) -> Array:
    """A picture with a coloured frame around it, and a caption below."""
    width = max(picture.shape[1] + 6, text_width(caption) + 4)
    result = canvas(picture.shape[0] + 6 + (14 if caption else 0), width)
    left = (width - picture.shape[1] - 6) // 2
    if frame is not None:
        result[: picture.shape[0] + 6, left : left + picture.shape[1] + 6] = frame
    result[3 : 3 + picture.shape[0], left + 3 : left + 3 + picture.shape[1]] = picture
    draw_text(result, caption, picture.shape[0] + 8, (width - text_width(caption)) // 2, frame or BLACK)
    return result


def grid(tiles: Sequence[Array], gap: int = 6) -> Array:
    """Tiles in a grid of about twice as many columns as rows."""
    columns = min(len(tiles), max(1, int(np.ceil(np.sqrt(2 * len(tiles))))))
    height, width = (max(picture.shape[axis] for picture in tiles) + gap for axis in (0, 1))
    result = canvas(-(-len(tiles) // columns) * height + gap, columns * width + gap)
    for index, picture in enumerate(tiles):
        top, left = index // columns * height + gap, index % columns * width + gap
        result[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return result


def png(picture: Array) -> bytes:
    """The picture as a PNG file."""
    return tf.io.encode_png(picture).numpy()


def filters_picture(kernel: Array, limit: int = 256) -> Array:
    """The kernels of a convolution, (height, width, inputs, filters), side by side; grey is 0, NaN black.

    With three inputs they are in colour; else each input of each filter is a picture of its own, at most
    `limit` of them.
    """
    kernel = np.where(np.isfinite(kernel), kernel, np.nan)
    largest = np.nanmax(np.abs(kernel), initial=0) or 1.0
    values = np.clip(kernel / largest / 2 + 0.5, 0, 1)
    height, width, inputs, filters = values.shape
    if inputs != 3:
        values = values.transpose(0, 1, 3, 2).reshape(height, width, 1, filters * inputs)
    pictures = np.broadcast_to(values, (height, width, 3, values.shape[-1])).transpose(3, 0, 1, 2)[:limit]
    pixels = np.rint(np.nan_to_num(pictures) * 255).astype(np.uint8)
    return grid([resized(kernel_picture, 48) for kernel_picture in pixels], gap=4)
