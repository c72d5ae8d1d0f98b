"""Image files as arrays of pixels, and folders of them, read the same way by all programs.

What cannot be given to a network faithfully is a `DataError` that names the file, what was found and the
way out: one frame of an animation, half of 16 bits or a guess at CMYK would not be the picture.
`keras.utils.image_dataset_from_directory` would take these as they come, reads no WebP, leaves orientation
and transparency aside, and holds out a share of all files, where here it is one of every class.
"""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .array_files import DataError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

# By the content, whatever the suffix. No others: for some, Pillow starts programs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


def pillow() -> ModuleType:
    """Pillow's module ``Image``, or `DataError` saying how to get it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"images are read with the package pillow, which does not import here ({one_line(error)}); "
            'install it: pip install "gradloop[data]"'
        ) from error
    return Image


def read(path: Path, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """The pixels of a picture as a viewer shows it: upright as EXIF says, transparency on white.

    They are (height, width, channels), squeezed whatever the proportions; 3 channels for RGB, 1 for luma.
    """
    pil = pillow()
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file; check the name")
        with path.open("rb") as stream, warnings.catch_warnings():
            # What else Pillow warns of, as of damaged remarks, leaves the pixels whole.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", pil.DecompressionBombWarning)
            head = stream.read(25)
            with pil.open(stream, formats=FORMATS) as image:
                _check_kind(path, image, head)
                picture = _on_white(_upright(image)).convert("L" if channels == 1 else "RGB")
        picture = picture.resize((width, height), pil.Resampling.BICUBIC)
        return np.array(picture).reshape(height, width, channels)
    except DataError:
        raise
    except (pil.DecompressionBombWarning, pil.DecompressionBombError) as error:
        raise DataError(
            f"{path}: has too many pixels to be decoded safely ({one_line(error)}); make it smaller"
        ) from error
    except Exception as error:  # Damaged files make decoders fail in any way there is.
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, pil.UnidentifiedImageError):
            reason = f"it does not begin like a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"
        raise DataError(
            f"{path}: cannot be read as an image ({one_line(reason)}); replace or delete it"
        ) from error


def resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """An image (h, w) or (h, w, 3) in another size, by the filter that `read` uses."""
    if pixels.shape[:2] == (height, width):
        return pixels
    pil = pillow()
    return np.array(pil.fromarray(pixels).resize((width, height), pil.Resampling.BICUBIC))


def entries(folder: Path) -> list[Path]:
    """The files and folders in a folder, sorted, without hidden ones."""
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed ({error.strerror}); give a folder that you may read"
        ) from error


def image_paths(folder: Path) -> list[Path]:
    """The image files in a folder, by suffix, sorted, without hidden ones."""
    return [p for p in entries(folder) if p.suffix.lower() in SUFFIXES and not p.is_dir()]


def class_folders(path: Path) -> list[tuple[str, list[Path]]]:
    """Each class's name and image files, from a folder with one sub-folder per class."""
    folders = [p for p in entries(path) if p.is_dir()]
    if len(folders) < 2:
        found = f"only {folders[0].name}" if folders else "none"
        raise DataError(f"{path}: wanted one sub-folder of images per class, two or more; found {found}")
    seen: dict[str, str] = {}
    for folder in folders:
        # Names that file systems and people do not distinguish.
        plain = unicodedata.normalize("NFKC", folder.name).strip().casefold()
        if plain in seen:
            raise DataError(
                f"{path}: the classes {seen[plain]!r} and {folder.name!r} differ only in case, spaces "
                "or the coding of letters; merge or rename these folders"
            )
        seen[plain] = folder.name
    classes = [(folder.name, image_paths(folder)) for folder in folders]
    for folder, (_, files) in zip(folders, classes, strict=True):
        if not files:
            raise DataError(f"{folder}: has no images; wanted files of {', '.join(SUFFIXES)}")
    return classes


def _check_kind(path: Path, image: Image, head: bytes) -> None:
    """Refuses a file whose pixels Pillow would not read faithfully."""
    # A JPEG of several pictures is a photograph with previews, the first being the whole.
    if image.format in ("GIF", "PNG", "WEBP") and getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", "several")
        raise DataError(f"{path}: is an animation of {frames} frames; save the one you mean as PNG")
    # Pillow opens a PNG of 16-bit colours as one of 8 bits, so the header of the file is read.
    if image.mode[0] in "IF" or (image.format == "PNG" and head[24] == 16):
        raise DataError(
            f"{path}: has more than 8 bits a pixel and channel (Pillow's mode {image.mode}); scale it "
            "to 0..255 yourself, since only you know its range, and save it with 8"
        )
    if image.mode not in MODES:
        raise DataError(
            f"{path}: has {image.mode} pixels, whose colours depend on a profile; convert it to RGB"
        )


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    image.load()  # damaged pixels are an error, damaged EXIF is none
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # it fails in any way there is, and says nothing about the pixels
        return image


def _on_white(image: Image) -> Image:
    if "A" not in image.mode and "transparency" not in image.info:
        return image
    pil = pillow()
    coloured = image.convert("RGBA")
    white: Image = pil.new("RGBA", coloured.size, "white")
    white.alpha_composite(coloured)
    return white
