"""The event files of a `TensorBoard`, one for each run, which a background thread writes."""

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
from .purge import purge_events, rename_event_files

_RUNS = ("steps", "train", "validation")
_MANY_TAGS = 200
_FLUSH_SECONDS = 5.0  # the files are flushed at least this often while events are written


class EventFiles:
    """Writes asynchronously the events of the runs `steps`, `train`, `validation` (or others) of a folder.

    A call only queues the write; a background thread does it, and a later call raises its error.

    A session is one run of `train`, or one loop of one's own. In each run of TensorBoard a session has a file
    of its own, which begins with the number of the first step (or epoch) that it writes: TensorBoard drops
    what earlier sessions wrote from that number on.
    """

    def __init__(self, log_dir: str) -> None:
        self.has_earlier_logs = False  # whether the folder held logs when it was opened
        # Whether this session resumes a run: events that it will write again are removed from earlier files.
        self.resumes = False
        self._log_dir = log_dir
        self._lock: FolderLock | None = None  # while open
        self._executor: ThreadPoolExecutor | None = None
        self._pending: deque[Future[None]] = deque()
        self._buffered: list[Callable[[], None]] | None = None
        self._tags: set[tuple[str, str]] = set()
        # Used by the background thread alone while it runs.
        self._writers: dict[str, EventWriter] = {}  # by run
        self._first: Mapping[str, int] | None = {}  # first step of the session, by run
        self._started: set[str] = set()  # runs whose file already has its session start
        self._flushed = 0.0  # time of the last flush

    @property
    def is_open(self) -> bool:
        """Whether this process has the folder locked."""
        return self._lock is not None

    def open(self) -> None:
        """Locks the folder; ValueError if it cannot be written, or if another run writes to it."""
        if self._lock is None:
            check_log_dir(self._log_dir)
            for run in _RUNS:
                self.check_run_folder(run)
            self._lock = FolderLock(self._log_dir)
            logs = (os.path.join(glob.escape(self._log_dir), run, "*tfevents*") for run in _RUNS)
            self.has_earlier_logs = any(map(tf.io.gfile.glob, logs))

    def check_run_folder(self, run: str) -> None:
        """Raises ValueError if the folder of a run cannot be made, as a file has its name."""
        path = os.path.join(self._log_dir, run)
        if tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path):
            raise ValueError(
                f"`log_dir` {self._log_dir!r} cannot be written: {path} is not a directory. Choose another "
                "folder."
            )

    def reset_session(self) -> None:
        """Lets the next write begin a new session; call it after `close`."""
        self._first = {}
        self._started.clear()

    def buffer(self) -> None:
        """Buffers all writes in memory until `start_session`."""
        self._buffered = []

    def start_session(self, first: Mapping[str, int] | None, replaces: bool = False) -> None:
        """Starts a session, then writes what was buffered.

        Args:
            first: by run, the first step or epoch of the session; in a run that is not named, it is the step
                of the first write. None to keep all events of earlier sessions.
            replaces: whether the session replaces all earlier ones, whose files are renamed.
        """

        def start() -> None:
            self._first = first
            for run in _RUNS if replaces else ():
                if run not in self._writers:
                    rename_event_files(os.path.join(self._log_dir, run))
            self._started.clear()

        buffered, self._buffered = self._buffered or [], None
        for write in (start, *buffered):
            self._queue(write)

    def submit(self, run: str, step: int, write: Callable[[EventWriter], None]) -> None:
        """Queues `write`, which the thread calls with the run's file; `step` is that of what it writes."""
        self._queue(lambda: write(self._writer(run, step)))

    def write_scalars(
        self, run: str, steps: Sequence[int], columns: Mapping[str, Sequence[float] | Array]
    ) -> None:
        """Writes scalars of several steps; `columns` maps each tag to a value for each step."""

        def write(file: EventWriter) -> None:
            file.write(steps, {tag: np.asarray(values).tolist() for tag, values in columns.items()})

        self._warn_of_many_tags(run, columns)
        if len(steps):
            self.submit(run, steps[0], write)

    def write_values(self, run: str, step: int, values: Sequence[tf.compat.v1.Summary.Value]) -> None:
        """Writes values of any plugin for one step; see `EventWriter.write_values`."""
        self._warn_of_many_tags(run, (value.tag for value in values))
        self.submit(run, step, lambda file: file.write_values(step, values))

    def flush(self, wait: bool) -> None:
        """Flushes all queued writes to the file system; with `wait`, returns when that is done."""
        if self._executor is not None:
            self._queue(self._flush)
            while wait and self._pending:
                self._pending.popleft().result()

    def close(self) -> None:
        """Ends the thread, closes the files and releases the lock; then raises the first error of these."""
        if self._buffered is not None:
            self.start_session(None)
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)
        pending, self._pending = self._pending, deque()
        files, self._writers = self._writers, {}
        lock, self._lock, self.resumes = self._lock, None, False
        closing = [*(file.close for file in files.values()), *([] if lock is None else [lock.release])]
        call_each([lambda: [write.result() for write in pending], *closing])

    def _queue(self, write: Callable[[], None]) -> None:
        if self._buffered is not None:
            self._buffered.append(write)
            return
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="gradloop-tensorboard")
        self._pending.append(self._executor.submit(write))

    def _warn_of_many_tags(self, run: str, tags: Iterable[str]) -> None:
        below_limit = len(self._tags) <= _MANY_TAGS
        self._tags.update((run, tag) for tag in tags)
        if below_limit and len(self._tags) > _MANY_TAGS:
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
                purge_events(folder, first)
            self._writers[run] = EventWriter(folder)
        if run not in self._started:
            self._started.add(run)
            if first is not None:
                self._writers[run].start_session(first)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._flush()
        return self._writers[run]

    def _flush(self) -> None:
        for file in self._writers.values():
            file.flush()
        self._flushed = time.monotonic()
