"""Folders that must be writable, on any file system of TensorFlow."""

import os

import pytest

from gradloop import loops


def test_an_empty_folder_is_left(tmp_path):
    loops.check_log_dir(str(tmp_path / "a" / "b"))
    assert os.listdir(tmp_path / "a" / "b") == []


def test_one_that_cannot_be_written_is_refused_by_the_callers_name(tmp_path):
    (tmp_path / "file").write_text("text")
    for tail in ("", "logs", "a/b"):
        with pytest.raises(
            ValueError, match="`place` '.*file.*' cannot be written: .* Choose another folder"
        ):
            loops.check_log_dir(str(tmp_path / "file" / tail), "place")
    assert (tmp_path / "file").read_text() == "text"


def test_a_file_system_that_is_not_there():
    with pytest.raises(ValueError, match="`log_dir` 'nowhere://runs' cannot be written: .*nowhere"):
        loops.check_log_dir("nowhere://runs")
    assert not os.path.exists("nowhere:")
