"""Photos from folders, and every way in which folders can be bad; files and tfds have tests of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared import image_files, photos
from shared.digit_images import DataError

RNG = np.random.default_rng(2)
PARTS = ("train", "validation", "test")


def write(root: Path, classes: dict[str, int]) -> Path:
    """Images, all different: the first is of grey 0, the next of grey 1, ..."""
    grey = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.new("RGB", (5, 4), (grey, grey, 200)).save(root / name / f"{index:02}.png")
            grey += 1
    return root


def greys(part: photos.Part) -> list[int]:
    return sorted(part[0][:, 0, 0, 0].tolist())


def test_folder_without_parts_gets_a_fifth_of_every_class_held_out_twice(
    tmp_path: Path, check_form: Callable[..., None]
) -> None:
    write(tmp_path, {"cat": 10, "dog": 21, "bird": 3})
    data = photos.load(str(tmp_path), 6)
    assert data.name == str(tmp_path) and data.class_names == ("bird", "cat", "dog")
    check_form(data, 6, 20, 7, 7)
    for part in PARTS:
        x, y = getattr(data, part)
        # Sorted by name: bird is class 0 and has the greys from 31 on.
        label = np.select([x[:, 0, 0, 0] >= 31, x[:, 0, 0, 0] >= 10], [0, 2], 1)
        np.testing.assert_array_equal(y, label)
    assert np.bincount(data.test[1]).tolist() == np.bincount(data.validation[1]).tolist() == [1, 2, 4]
    everything = greys(data.train) + greys(data.validation) + greys(data.test)
    assert sorted(everything) == list(range(34))
    again = photos.load(str(tmp_path), 6)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(again, part)[0], getattr(data, part)[0])


@pytest.mark.parametrize(
    "names", [("train", "validation", "test"), ("Train", "val", "test"), ("train", "valid", "TEST")]
)
def test_folder_with_all_parts(
    names: tuple[str, ...], tmp_path: Path, check_form: Callable[..., None]
) -> None:
    for name, count in zip(names, (3, 1, 2), strict=True):
        write(tmp_path / name, {"cat": count, "dog": count})
    (tmp_path / ".cache").mkdir()
    data = photos.load(str(tmp_path), 4)
    check_form(data, 4, 6, 2, 4)
    assert data.class_names == ("cat", "dog")
    assert greys(data.test) == [0, 1, 2, 3] and data.test[1].tolist() == [0, 0, 1, 1]


def test_folder_with_some_parts(tmp_path: Path, check_form: Callable[..., None]) -> None:
    write(tmp_path / "train", {"cat": 10, "dog": 5})
    write(tmp_path / "test", {"cat": 1, "dog": 1})
    data = photos.load(str(tmp_path), 4)
    check_form(data, 4, 12, 3, 2)
    assert sorted(greys(data.train) + greys(data.validation)) == list(range(15))


def test_a_class_may_be_called_like_a_part(tmp_path: Path) -> None:
    write(tmp_path, {"test": 5, "train": 5, "plane": 5})
    (tmp_path / "test" / ".thumbnails").mkdir()
    assert photos.load(str(tmp_path), 4).class_names == ("plane", "test", "train")


def test_folder_reads_as_image_files_does(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    scene = RNG.integers(0, 256, (30, 40, 4), "uint8")
    for name in ("00", "01", "02"):
        Image.fromarray(scene).save(tmp_path / "cat" / f"{name}.png")
    data = photos.load(str(tmp_path), 9)
    wanted = image_files.read(tmp_path / "cat" / "00.png", 9, 9, 3)
    for part in PARTS:
        x, y = getattr(data, part)
        np.testing.assert_array_equal(x[y == 0], wanted[None])


def test_parts_of_other_classes(tmp_path: Path) -> None:
    write(tmp_path / "train", {"cat": 3, "dog": 3})
    write(tmp_path / "val", {"cat": 3, "dog": 3, "fox": 1})
    with pytest.raises(DataError, match=r"val: has the class fox, which .*train lacks; give every part"):
        photos.load(str(tmp_path), 4)
    write(tmp_path / "train", {"fox": 3, "goat": 1})
    with pytest.raises(DataError, match=r"train: has the class goat, which .*val lacks"):
        photos.load(str(tmp_path), 4)


def test_parts_that_are_not_clear(tmp_path: Path) -> None:
    write(tmp_path / "test", {"cat": 3, "dog": 3})
    with pytest.raises(DataError, match="has test but no train; add a sub-folder train"):
        photos.load(str(tmp_path), 4)
    write(tmp_path / "train", {"cat": 3, "dog": 3})
    write(tmp_path / "val", {"cat": 3, "dog": 3})
    write(tmp_path / "validation", {"cat": 3, "dog": 3})
    with pytest.raises(DataError, match="has val and validation, both the validation part; keep one"):
        photos.load(str(tmp_path), 4)
    (tmp_path / "extra").mkdir()
    with pytest.raises(DataError, match="extra: is neither train, validation nor test, beside test"):
        photos.load(str(tmp_path), 4)


@pytest.mark.parametrize(("count", "need"), [(1, "three"), (2, "three")])
def test_folder_with_too_few_of_a_class(count: int, need: str, tmp_path: Path) -> None:
    write(tmp_path, {"cat": 9, "dog": count})
    with pytest.raises(DataError, match=f"class dog has {count} images?; give it {need} or more"):
        photos.load(str(tmp_path), 4)


def test_folder_with_a_bad_file(tmp_path: Path) -> None:
    write(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "dog" / "x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"x\.png: cannot be read as an image"):
        photos.load(str(tmp_path), 4)


def test_no_such_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder; --data takes a FOLDER"):
        photos.load(str(tmp_path / "nowhere"), 4)
