"""The event files of a `TensorBoard`: one a run, written by a thread."""

from __future__ import annotations

import glob
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from ...optim.common.types import Array
from ..support.errors import call_each
from ..support.folder_lock import FolderLock
from ..support.folders import check_log_dir
from .event_writer import EventWriter
from .superseded import remove_superseded, set_aside

_RUNS = ("steps", "train", "validation")
_MANY_TAGS = 200
_SECONDS_UNSEEN = 5.0  # what is written is handed to the file system at least so often


class EventFiles:
    """Writes events of the runs `steps`, `train`, `validation` (or others) under a folder.

    Whoever calls goes on at once, and a thread writes; an error there is raised by a later call.

    A session is a run of `train`, or a loop of one's own. Each has a file of its own in a run, which begins
    with the number of the first step (or epoch) that this session writes: from there on, TensorBoard forgets
    what earlier ones wrote.
    """

    def __init__(self, log_dir: str) -> None:
        self.found_logs = False  # whether there were logs in the folder when it was taken
        # Whether this session is a run that resumes, and writes once more what is removed of its files.
        self.resumes = False
        self._log_dir = log_dir
        self._lock: FolderLock | None = None  # while open
        self._thread: ThreadPoolExecutor | None = None
        self._pending: deque[Future[None]] = deque()
        self._held: list[Callable[[], None]] | None = None
        self._tags: set[tuple[str, str]] = set()
        # Only the thread uses these while there is one.
        self._writers: dict[str, EventWriter] = {}  # by run
        self._first: Mapping[str, int] | None = {}  # of the session, by run
        self._started: set[str] = set()  # runs in whose files that is written
        self._flushed = 0.0

    @property
    def is_open(self) -> bool:
        """Whether this process holds the folder."""
        return self._lock is not None

    def open(self) -> None:
        """Takes the folder; ValueError where it cannot be written, or where another run writes to it."""
        if self._lock is None:
            check_log_dir(self._log_dir)
            for run in _RUNS:
                self.check(run)
            self._lock = FolderLock(self._log_dir)
            logs = (os.path.join(glob.escape(self._log_dir), run, "*tfevents*") for run in _RUNS)
            self.found_logs = any(map(tf.io.gfile.glob, logs))

    def check(self, run: str) -> None:
        """Raises ValueError where a file has the name of a run's folder."""
        path = os.path.join(self._log_dir, run)
        if tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path):
            raise ValueError(
                f"`log_dir` {self._log_dir!r} cannot be written: {path} is not a directory. Choose another "
                "folder."
            )

    def forget(self) -> None:
        """Has what is written next begin a session, as if nothing had been; once all is closed."""
        self._first = {}
        self._started.clear()

    def hold(self) -> None:
        """Keeps what is submitted back until `start`."""
        self._held = []

    def start(self, first: Mapping[str, int] | None, replaces: bool = False) -> None:
        """Starts a session, whose first step or epoch in each run `first` tells.

        In a run that is not named, it is what is written first. None to forget nothing of earlier sessions.
        A session that `replaces` all of these sets their files aside.
        """

        def start() -> None:
            self._first = first
            for run in _RUNS if replaces else ():
                if run not in self._writers:
                    set_aside(os.path.join(self._log_dir, run))
            self._started.clear()

        held, self._held = self._held or [], None
        for write in (start, *held):
            self._queue(write)

    def submit(self, run: str, step: int, write: Callable[[EventWriter], None]) -> None:
        """Has the thread call `write` with the run's file, for something of this step."""
        self._queue(lambda: write(self._writer(run, step)))

    def scalars(self, run: str, steps: Sequence[int], columns: Mapping[str, Sequence[float] | Array]) -> None:
        """Writes values at each of some steps; `columns` maps tags to a value for each."""

        def write(file: EventWriter) -> None:
            file.write(steps, {tag: np.asarray(values).tolist() for tag, values in columns.items()})

        self._count(run, columns)
        if len(steps):
            self.submit(run, steps[0], write)

    def values(self, run: str, step: int, values: Sequence[tf.compat.v1.Summary.Value]) -> None:
        """Writes values of any plugin at a step; see `EventWriter.write_values`."""
        self._count(run, (value.tag for value in values))
        self.submit(run, step, lambda file: file.write_values(step, values))

    def flush(self, wait: bool) -> None:
        """Hands all that was submitted to the file system; `wait` until that is done."""
        if self._thread is not None:
            self._queue(self._flush)
            while wait and self._pending:
                self._pending.popleft().result()

    def close(self) -> None:
        """Ends the thread, closes the files, releases the folder; then raises the first error of these."""
        if self._held is not None:
            self.start(None)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=True)
        pending, self._pending = self._pending, deque()
        files, self._writers = self._writers, {}
        lock, self._lock, self.resumes = self._lock, None, False
        closing = [*(file.close for file in files.values()), *([] if lock is None else [lock.release])]
        call_each([lambda: [write.result() for write in pending], *closing])

    def _queue(self, write: Callable[[], None]) -> None:
        if self._held is not None:
            self._held.append(write)
            return
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="gradloop-tensorboard")
        self._pending.append(self._thread.submit(write))

    def _count(self, run: str, tags: Iterable[str]) -> None:
        few = len(self._tags) <= _MANY_TAGS
        self._tags.update((run, tag) for tag in tags)
        if few and len(self._tags) > _MANY_TAGS:
            warnings.warn(
                f"The logs in {self._log_dir!r} have {len(self._tags)} tags or more, with which TensorBoard "
                'becomes slow: write fewer, as `watch="groups"` does, or a filter as `watch`, `histograms` '
                "or `activations`.",
                stacklevel=2,
            )

    def _writer(self, run: str, step: int) -> EventWriter:
        first = None if self._first is None else self._first.get(run, step)
        if run not in self._writers:
            folder = os.path.join(self._log_dir, run)
            if self.resumes and first is not None and run not in self._started:
                remove_superseded(folder, first)
            self._writers[run] = EventWriter(folder)
        if run not in self._started:
            self._started.add(run)
            if first is not None:
                self._writers[run].start_session(first)
        if time.monotonic() - self._flushed > _SECONDS_UNSEEN:
            self._flush()
        return self._writers[run]

    def _flush(self) -> None:
        for file in self._writers.values():
            file.flush()
        self._flushed = time.monotonic()
