"""Folders: whether they can be written, and paths that hold in any working directory."""

from __future__ import annotations

import os
import time

import tensorflow as tf

from .durable_files import is_local


def absolute_path(path: str | os.PathLike[str]) -> str:
    """Returns a local path as an absolute one, others (`gs://...`) unchanged.

    So it still names the same folder after the program has changed its working directory.

    Example:
        >>> import os
        >>> from gradloop.loops.support.folders import absolute_path
        >>> absolute_path("runs") == os.path.join(os.getcwd(), "runs"), absolute_path("gs://bucket/runs")
        (True, 'gs://bucket/runs')
    """
    text = os.fsdecode(path)
    return os.path.abspath(text) if is_local(text) else text


def check_log_dir(log_dir: str, name: str = "log_dir") -> None:
    """Makes the folder and checks that it can be written.

    Args:
        log_dir: path of the folder, on any file system that TensorFlow writes to (`gs://...`).
        name: the caller's argument, for the error.

    Raises:
        ValueError: the folder cannot be made or written.

    Example:
        >>> import os, tempfile
        >>> from gradloop import loops
        >>> folder = os.path.join(tempfile.mkdtemp(), "runs", "first")
        >>> loops.check_log_dir(folder)
        >>> os.path.isdir(folder)
        True
    """
    probe = os.path.join(log_dir, f".gradloop-{os.getpid()}-{time.time_ns()}")
    try:
        tf.io.gfile.makedirs(log_dir)
        with tf.io.gfile.GFile(probe, "w") as file:
            file.write("")
        tf.io.gfile.remove(probe)
    except tf.errors.OpError as error:
        raise ValueError(
            f"`{name}` {log_dir!r} cannot be written: {error.message}. Choose another folder."
        ) from error
