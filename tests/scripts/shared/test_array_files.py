"""Arrays from files and their checks. What data meets is in test_digit_images and test_photos."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from shared import array_files, digit_images
from shared.array_files import DataError


def test_one_class_of_errors() -> None:
    assert digit_images.DataError is DataError


def test_read_takes_what_is_wanted_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3), b=np.eye(2), c=np.zeros(1))
    arrays = array_files.read(path, ["a"], ["b", "d"])
    assert list(arrays) == ["a", "b"]
    np.testing.assert_array_equal(arrays["a"], [0, 1, 2])
    np.testing.assert_array_equal(arrays["b"], np.eye(2))


def test_a_part_of_a_file_that_is_not_asked_for_may_be_anything(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3), notes=np.array([{"any": "object"}], dtype=object))
    assert list(array_files.read(path, ["a"])) == ["a"]
    with pytest.raises(DataError, match=r"a\.npz: holds pickled Python objects"):
        array_files.read(path, ["a", "notes"])


def test_more_than_fits_into_memory(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**9)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(100))
    with pytest.raises(DataError, match=r"a\.npz: does not fit into memory \(.*\); give fewer or smaller"):
        array_files.read(tmp_path / "a.npz", ["x"])


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x", b"some text")
    x = array_files.read(tmp_path / "a.npz", ["x"])["x"]
    with pytest.raises(DataError, match=r"x has dtype \|S9; pixels are numbers"):
        array_files.check_images("x", x, True, "(n,)")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.npz: is not a whole \.npz file.*No such file"):
        array_files.read(tmp_path / "a.npz", ["x"])


@pytest.mark.parametrize("parts", [["test"], ["test", "validation"], []])
def test_hold_out_takes_a_fifth_of_every_class_for_each_part(parts: list[str]) -> None:
    sizes = [10, 25, 5, 3]
    y = np.random.default_rng(1).permutation(np.repeat(np.arange(4), sizes))
    place = array_files.hold_out("data", y, list("abcd"), parts)
    np.testing.assert_array_equal(place, array_files.hold_out("data", y, list("abcd"), parts))
    for label, fifth in enumerate([2, 5, 1, 1]):
        counts = np.bincount(place[y == label], minlength=3).tolist()
        taken = [fifth] * len(parts) + [0] * (2 - len(parts))
        assert counts == [sizes[label] - sum(taken), *taken]


def test_hold_out_of_the_first_part_does_not_depend_on_the_second() -> None:
    y = np.arange(100) % 3
    one = array_files.hold_out("data", y, list("abc"), ["test"])
    two = array_files.hold_out("data", y, list("abc"), ["test", "validation"])
    np.testing.assert_array_equal(one == 1, two == 1)


@pytest.mark.parametrize(
    ("count", "parts", "message"),
    [
        (0, [], "class b has 0 images; give it one or more$"),
        (1, ["test"], "class b has 1 image; give it two or more, since a fifth .* for the test$"),
        (1, ["validation"], "class b has 1 image; give it two or more.* for the validation$"),
        (2, ["test", "validation"], "b has 2 images; give it three .* the test and for the validation$"),
    ],
)
def test_hold_out_of_too_few(count: int, parts: list[str], message: str) -> None:
    y = np.array([0] * 9 + [1] * count)
    with pytest.raises(DataError, match=f"^data: .*{message}"):
        array_files.hold_out("data", y, ["a", "b"], parts)
    assert len(array_files.hold_out("data", np.append(y, 1), ["a", "b"], parts)) == len(y) + 1


def test_class_names_are_numbers_without_others() -> None:
    assert array_files.class_names(Path("a.npz"), None, 3) == ["0", "1", "2"]
    assert array_files.class_names(Path("a.npz"), np.array(["cat", "dog"]), 2) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array([1, 2]), r"class_names has dtype int64 and shape \(2,\); wanted one text a class"),
        (np.array([["a", "b"]]), r"class_names has dtype <U1 and shape \(1, 2\); wanted"),
        (np.array("a"), r"shape \(\); wanted"),
        (np.array(["a", "b", "c"]), "class_names has 3 names, but y_train has labels up to 1; name 2"),
        (np.array(["a", "a"]), r"class_names has a name twice \(a, a\); tell them apart"),
    ],
)
def test_class_names_of_no_use(given: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=r"a\.npz: .*" + message):
        array_files.class_names(Path("a.npz"), given, 2)
