"""Reading image files: every kind against an independent reading, and everything that is refused."""

from __future__ import annotations

import errno
import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from shared import image_files
from shared.digit_images import DataError

RNG = np.random.default_rng(5)
COLOUR = RNG.integers(0, 256, (6, 9, 3), "uint8")
# Smooth, so that two good resizings agree.
SCENE = np.asarray(Image.fromarray(COLOUR).resize((90, 60), Image.Resampling.BICUBIC))
LUMA = np.array([0.299, 0.587, 0.114])


def saved(path: Path, pixels: Any, **options: Any) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def opened(path: Path, attribute: str) -> Any:
    """What Pillow says of a file."""
    with Image.open(path) as image:
        return getattr(image, attribute)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, depth: int, colour: int, rows: list[bytes], width: int) -> Path:
    """A PNG written by hand, of kinds that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    path.write_bytes(start + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


# What is read


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_lossless_pixels_arrive_as_they_are(suffix: str, tmp_path: Path) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    path = saved(tmp_path / f"a{suffix}", COLOUR, **options)
    pixels = image_files.read(path, 6, 9, 3)
    assert pixels.dtype == np.uint8 and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, COLOUR)
    grey = image_files.read(path, 6, 9, 1)
    assert grey.shape == (6, 9, 1)
    np.testing.assert_allclose(grey[..., 0], COLOUR @ LUMA, atol=0.51)


def test_grey_files_keep_their_grey(tmp_path: Path) -> None:
    grey = COLOUR[..., 0]
    path = saved(tmp_path / "a.png", grey)
    np.testing.assert_array_equal(image_files.read(path, 6, 9, 1)[..., 0], grey)
    np.testing.assert_array_equal(image_files.read(path, 6, 9, 3), np.repeat(grey[..., None], 3, -1))
    # Two colours, a bit each.
    path = saved(tmp_path / "b.png", Image.fromarray(grey).convert("1", dither=Image.Dither.NONE))
    np.testing.assert_array_equal(image_files.read(path, 6, 9, 1)[..., 0], 255 * (grey >= 128))


def test_jpeg_is_what_tensorflow_decodes(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", SCENE, quality=95)
    theirs = tf.io.decode_jpeg(path.read_bytes(), dct_method="INTEGER_ACCURATE").numpy()
    ours = image_files.read(path, 60, 90, 3)
    np.testing.assert_allclose(ours.astype(int), theirs, atol=4)


@pytest.mark.parametrize("size", [(20, 30), (30, 17), (120, 100), (60, 90)])
def test_resizing_is_antialiased_bicubic(size: tuple[int, int], tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", SCENE)
    theirs = np.clip(tf.image.resize(SCENE, size, "bicubic", antialias=True).numpy(), 0, 255)
    np.testing.assert_allclose(image_files.read(path, *size, 3), theirs, atol=1.6)
    np.testing.assert_allclose(image_files.resized(SCENE, *size), theirs, atol=1.6)
    # A fine chessboard becomes even grey, where leaving out pixels would keep one colour.
    board = np.indices((64, 64)).sum(0).astype("uint8") % 2 * 255
    small = image_files.resized(board, 8, 8)
    assert small.shape == (8, 8)
    np.testing.assert_allclose(small, 127.5, atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_on_white(mode: str, tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, (6, 9, 1)) / 255
    channels = COLOUR if mode == "RGBA" else COLOUR[..., :1]
    pixels = np.concatenate([channels, np.rint(255 * alpha).astype("uint8")], axis=-1)
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    assert opened(path, "mode") == mode
    wanted = alpha * channels + (1 - alpha) * 255
    read = image_files.read(path, 6, 9, 3)
    np.testing.assert_allclose(read, np.broadcast_to(wanted, COLOUR.shape), atol=1.01)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_palette_with_a_transparent_entry(suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], "uint8"))
    image.putpalette([10, 20, 30, 200, 100, 0, 7, 8, 9])
    path = saved(tmp_path / f"a{suffix}", image, transparency=1)
    assert opened(path, "mode") == "P"
    wanted = [[[10, 20, 30], [255] * 3], [[7, 8, 9], [255] * 3]]
    np.testing.assert_array_equal(image_files.read(path, 2, 2, 3), wanted)


def test_one_colour_of_rgb_transparent(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", COLOUR, transparency=tuple(int(v) for v in COLOUR[2, 3]))
    wanted = COLOUR.copy()
    wanted[2, 3] = 255
    np.testing.assert_array_equal(image_files.read(path, 6, 9, 3), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", COLOUR, exif=exif)
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    assert wanted.shape[:2] == ((6, 9) if orientation < 5 else (9, 6))
    height, width = wanted.shape[:2]
    np.testing.assert_array_equal(image_files.read(path, height, width, 3), wanted)


@pytest.mark.parametrize("damage", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_does_no_harm(damage: bytes, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", SCENE, exif=damage)
    plain = saved(tmp_path / "b.jpg", SCENE)
    np.testing.assert_array_equal(image_files.read(path, 60, 90, 3), image_files.read(plain, 60, 90, 3))


def test_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    path = saved(tmp_path / "really_png.jpg", COLOUR, format="PNG")
    np.testing.assert_array_equal(image_files.read(path, 6, 9, 3), COLOUR)


def test_a_photograph_with_a_preview_is_no_animation(tmp_path: Path) -> None:
    other = Image.fromarray(255 - SCENE)
    path = saved(tmp_path / "a.jpg", SCENE, format="MPO", save_all=True, append_images=[other])
    assert opened(path, "n_frames") == 2
    np.testing.assert_allclose(image_files.read(path, 6, 9, 3), image_files.resized(SCENE, 6, 9), atol=9)


# What is not


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp"])
def test_animations(suffix: str, tmp_path: Path) -> None:
    other = Image.fromarray(255 - COLOUR)
    path = saved(tmp_path / f"a{suffix}", COLOUR, save_all=True, append_images=[other])
    with pytest.raises(DataError, match=rf"a\{suffix}: is an animation of 2 frames; save the one"):
        image_files.read(path, 6, 9, 3)
    alone = saved(tmp_path / f"b{suffix}", COLOUR, save_all=True)
    assert image_files.read(alone, 6, 9, 3).shape == (6, 9, 3)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits(colour: int, channels: int, tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", 16, colour, [b"\x12\x34" * channels * 2] * 2, width=2)
    with pytest.raises(DataError, match=r"a\.png: has more than 8 bits .* scale it to 0\.\.255 yourself"):
        image_files.read(path, 2, 2, 3)
    path = png(tmp_path / "b.png", 8, colour, [b"\x12" * channels * 2] * 2, width=2)
    assert image_files.read(path, 2, 2, 3).shape == (2, 2, 3)


def test_print_colours(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(COLOUR).convert("CMYK"))
    with pytest.raises(DataError, match=r"a\.jpg: has CMYK pixels, .*; convert it to RGB"):
        image_files.read(path, 2, 2, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.98])
def test_truncated(suffix: str, share: float, tmp_path: Path) -> None:
    path = saved(tmp_path / f"a{suffix}", RNG.integers(0, 256, (40, 40, 3), "uint8"))
    assert image_files.read(path, 4, 4, 3).shape == (4, 4, 3)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"a\{suffix}: cannot be read as an image \(.+\); replace or"):
        image_files.read(path, 4, 4, 3)


def test_damage_anywhere_is_an_image_or_a_data_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for suffix in ("png", "jpeg", "bmp", "gif", "webp"):
        whole = io.BytesIO()
        Image.fromarray(SCENE).save(whole, suffix)
        for _ in range(60):
            damaged = bytearray(whole.getvalue())
            for place in rng.integers(0, min(len(damaged), 400), 6):
                damaged[place] = rng.integers(256)
            (tmp_path / "a").write_bytes(damaged)
            try:
                image_files.read(tmp_path / "a", 3, 3, 3)
                outcomes["read"] += 1
            except DataError as error:
                outcomes["refused"] += 1
                assert "\n" not in str(error) and str(tmp_path / "a") in str(error)
    assert min(outcomes.values()) > 20


def test_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(DataError, match=r"a\.png: cannot be read .* like a PNG, JPEG, BMP, GIF or WEBP file"):
        image_files.read(tmp_path / "a.png", 2, 2, 3)
    # Pillow would start a program for this one.
    (tmp_path / "b.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")
    with pytest.raises(DataError, match=r"b\.png: cannot be read"):
        image_files.read(tmp_path / "b.png", 2, 2, 3)
    for missing in (tmp_path, tmp_path / "c.png"):
        with pytest.raises(DataError, match=f"{missing.name}: no such file; check the name"):
            image_files.read(missing, 2, 2, 3)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", COLOUR)

    def refused(*_: object) -> None:  # as root, who may read everything, is not
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image \(Permission denied\)"):
        image_files.read(path, 2, 2, 3)


@pytest.mark.parametrize("limit", [30, 10], ids=["a warning of Pillow's", "an error of Pillow's"])
def test_decompression_bombs(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", COLOUR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=r"a\.png: has too many pixels to be decoded safely .*54 pixels"):
        image_files.read(path, 2, 2, 3)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.png", COLOUR)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r'the package pillow, .*: pip install "gradloop\[data\]"'):
        image_files.read(path, 2, 2, 3)


# Folders


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_class_folders_lists_images_in_order(tmp_path: Path) -> None:
    tree(tmp_path, "dog/b.JPG", "dog/a.webp", "dog/notes.txt", "dog/.hidden.png", "dog/old/c.png")
    tree(tmp_path, "cat/1.gif", "cat/x.png/inside.txt", ".cache/z.png", "readme.txt", "loose.png")
    (tmp_path / "cat" / "link.bmp").symlink_to(tmp_path / "gone.bmp")
    assert image_files.class_folders(tmp_path) == [
        # What a link lost is named when it is read, not passed over.
        ("cat", [tmp_path / "cat" / "1.gif", tmp_path / "cat" / "link.bmp"]),
        ("dog", [tmp_path / "dog" / "a.webp", tmp_path / "dog" / "b.JPG"]),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [("Cat", "cat"), ("cat", "cat "), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "stra\u00dfe")],
)
def test_class_names_that_clash(first: str, second: str, tmp_path: Path) -> None:
    tree(tmp_path, f"{first}/a.png", f"{second}/a.png", "dog/a.png")
    with pytest.raises(DataError, match=r"the classes '.*' and '.*' differ only in case, spaces or"):
        image_files.class_folders(tmp_path)


def test_folders_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one sub-folder of images per class, two or more; found none"):
        image_files.class_folders(tmp_path)
    tree(tmp_path, "cat/a.png")
    with pytest.raises(DataError, match="two or more; found only cat"):
        image_files.class_folders(tmp_path)
    tree(tmp_path, "dog/a.tiff")
    with pytest.raises(
        DataError, match=r"dog: has no images; wanted files of \.png, \.jpg, \.jpeg, \.bmp, \.gif, \.webp"
    ):
        image_files.class_folders(tmp_path)
    with pytest.raises(DataError, match=r"gone: cannot be listed \(No such file or directory\)"):
        image_files.class_folders(tmp_path / "gone")
