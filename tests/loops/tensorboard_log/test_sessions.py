"""What TensorBoard shows of runs that were resumed, or that follow each other in one folder."""

import contextlib
import itertools
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gradloop import loops
from gradloop.loops.tensorboard_log.purge import purge_events
from tests.loops.tensorboard_log.loaders import LOADERS, by_python, by_server
from tests.programs import Program

KILLED = Path(__file__).parent / "programs" / "killed.py"


def _write(folder, steps, **options):
    with loops.TensorBoard(folder, **options) as board:
        for step in steps:
            board.write(step, {"a": step + 0.5 * min(steps)})


@pytest.mark.parametrize("load", LOADERS)
def test_a_later_session_takes_the_place_of_an_earlier_one_from_its_first_step_on(tmp_path, load):
    for steps in (range(1, 11), range(6, 9), range(8, 10)):
        _write(tmp_path, steps)
    (points,) = load(tmp_path)["steps"].values()
    begins = [1] * 5 + [6] * 2 + [8] * 2
    assert points == [(step, step + 0.5 * begin) for step, begin in zip(range(1, 10), begins, strict=True)]


@pytest.mark.parametrize("load", LOADERS)
def test_a_tag_that_the_later_session_does_not_write(tmp_path, load):
    """The server in Rust knows of no sessions, and drops what a later point of the same tag contradicts."""
    with loops.TensorBoard(tmp_path) as board:
        board.write(1, {"a": np.arange(4.0), "old": np.arange(4.0)})
    with loops.TensorBoard(tmp_path) as board:
        board.write(3, {"a": 7.0})
    tags = load(tmp_path)["steps"]
    assert tags["a"] == [(1, 0.0), (2, 1.0), (3, 7.0)]
    assert [step for step, _ in tags["old"]] == ([1, 2] if load is by_python else [1, 2, 3, 4])


@pytest.mark.parametrize("load", LOADERS)
def test_files_of_others_in_which_no_session_begins(tmp_path, load):
    with tf.summary.create_file_writer(str(tmp_path / "steps")).as_default():
        for step in range(1, 6):
            tf.summary.scalar("a", 0.0, step)
    (file,) = (tmp_path / "steps").iterdir()
    file.rename(file.with_name("events.out.tfevents.0000000001.earlier.v2"))  # not in the same second
    _write(tmp_path, range(3, 5))
    assert load(tmp_path)["steps"]["a"] == [(1, 0.0), (2, 0.0), (3, 4.5), (4, 5.5)]


def test_writes_after_training_and_at_its_beginning_belong_to_its_session(tmp_path):
    """A board that has written begins no session anew, so its own points stay."""

    class Own(loops.StepsCallback):
        def on_train_begin(self, logs=None):
            board.write(0, {"own": 1.0})

        def on_train_steps_end(self, first, values):
            board.write(first, {"twice": 2 * values["loss"]})

    board = loops.TensorBoard(tmp_path, watch=None)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    step, data = loops.TrainStep(model, "mse", "sgd"), loops.Batches(np.ones((8, 3)), np.ones((8, 2)), 2)
    for _ in range(2):
        loops.train(step, data, epochs=1, callbacks=[board, Own()])
    board.write(0, {"after": 3.0})
    board.close()
    tags = by_server(tmp_path)["steps"]
    assert tags["after"] == [(0, 3.0)] and [step for step, _ in tags["own"]] == [0]
    assert [number for number, _ in tags["step/loss"]] == list(range(1, 9))
    assert tags["twice"] == [(number, 2 * value) for number, value in tags["step/loss"]]
    assert by_python(tmp_path)["steps"]["step/loss"] == tags["step/loss"]


@pytest.mark.parametrize("step", [8, pytest.param(5, marks=pytest.mark.release)])
def test_a_killed_run_shows_every_step_once(tmp_path, step):
    """Step 8 is the last of an epoch, of which the validation is missing then; step 5 is within one."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    programs = [Program(KILLED, whole, folder=tmp_path), Program(KILLED, cut, step, folder=tmp_path)]
    programs[0].finish()
    programs[1].process.join(120)
    assert programs[1].process.exitcode == -9
    (file,) = (cut / "logs" / "steps").iterdir()
    file.write_bytes(file.read_bytes() + file.read_bytes()[:20])  # half of a record
    Program(KILLED, cut, folder=tmp_path).finish()
    for load in LOADERS:
        expected, points = _without_speed(load(whole / "logs")), _without_speed(load(cut / "logs"))
        assert points == expected
        assert [number for number, _ in points["steps"]["step/loss"]] == list(range(1, 13))
    # This forgets nothing that is in a file, as TensorBoard's loaders do.
    events = EventAccumulator(str(cut / "logs" / "steps"), {"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("step/loss")] == list(range(1, 13))


def test_a_loop_of_ones_own_that_resumes_with_its_board(tmp_path):
    """What was written after the checkpoint is not there twice, and what was written before it is."""
    checkpoint = loops.Checkpoint(tmp_path / "checkpoints", verbose=0)
    for ends in (5, 8):
        board = loops.TensorBoard(tmp_path / "logs")
        saved = {"steps": 0, "board": board}
        checkpoint.restore(saved)
        while saved["steps"] < ends:
            saved["steps"] += 1
            board.write(saved["steps"], {"a": 1.0})
            if saved["steps"] % 3 == 0:
                checkpoint.save(saved)
                events = EventAccumulator(str(tmp_path / "logs" / "steps"), {"tensors": 0}).Reload()
                assert [event.step for event in events.Tensors("a")] == [*range(1, saved["steps"] + 1)]
        board.close()
    events = EventAccumulator(str(tmp_path / "logs" / "steps"), {"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("a")] == [*range(1, 9)]


def test_only_what_a_resumed_run_writes_again_is_removed(tmp_path):
    _write(tmp_path, range(1, 6))
    (file,) = (tmp_path / "steps").iterdir()
    whole = file.read_bytes()
    purge_events(str(tmp_path / "steps"), 6)
    purge_events(str(tmp_path / "train"), 1)  # is not there
    assert file.read_bytes() == whole
    file.write_bytes(whole + whole[:20])
    purge_events(str(tmp_path / "steps"), 4)
    assert [file] == list((tmp_path / "steps").iterdir()) and whole.startswith(file.read_bytes())
    events = EventAccumulator(str(tmp_path / "steps"), {"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("a")] == [1, 2, 3]


def test_writes_after_a_resumed_run_leave_its_points(tmp_path):
    data = loops.Batches(np.ones((8, 3)), np.ones((8, 2)), 2)
    for epochs in (1, 2):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        step, board = loops.TrainStep(model, "mse", "sgd"), loops.TensorBoard(tmp_path / "logs", watch=None)
        loops.train(step, data, epochs=epochs, callbacks=[board], checkpoint=tmp_path / "run")
    board.write(8, {"after": 3.0})
    board.close()
    tags = by_python(tmp_path / "logs")["steps"]
    assert [number for number, _ in tags["step/loss"]] == list(range(1, 9)) and tags["after"] == [(8, 3.0)]


def _without_speed(points):
    return {
        run: {tag: values for tag, values in tags.items() if not tag.startswith(("speed/", "memory/"))}
        for run, tags in points.items()
    }


def test_a_new_run_into_the_folder_of_another(tmp_path):
    tmp_path = tmp_path / "lr=[0.1]"  # which is no pattern
    with tf.summary.create_file_writer(str(tmp_path / "mine")).as_default():
        tf.summary.scalar("mine", 1.0, step=1)  # no run of ours
    for rate, warns in ((0.1, False), (0.2, True)):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
        step = loops.TrainStep(model, "mse", keras.optimizers.SGD(rate))
        data = loops.Batches(np.ones((4, 1)), np.zeros((4, 1)), 2)
        told = pytest.warns(
            UserWarning, match="`log_dir` .* holds the logs of an earlier run: .* To see both"
        )
        with told if warns else contextlib.nullcontext():
            history = loops.train(step, data, epochs=2, callbacks=[loops.TensorBoard(tmp_path, watch=None)])
    for load in LOADERS:
        runs = load(tmp_path)
        assert [number for number, _ in runs["steps"]["step/loss"]] == [1, 2, 3, 4]
        numbers, losses = zip(*runs["train"]["epoch/loss"])
        assert numbers == (1, 2)
        np.testing.assert_allclose(losses, history.history["loss"], rtol=1e-6)
    events = EventAccumulator(str(tmp_path / "steps"), {"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("step/loss")] == [1, 2, 3, 4]
    for run in ("steps", "train"):
        names = sorted(file.name.split(".")[2] for file in (tmp_path / run).iterdir())
        assert names == ["earlier", "tfevents"]  # nothing is lost


@pytest.mark.parametrize(
    "fast", [pytest.param("true", marks=pytest.mark.release), pytest.param("false", marks=pytest.mark.long)]
)
def test_tensorboard_itself_shows_a_later_session_in_the_place_of_an_earlier_one(tmp_path, fast):
    _write(tmp_path / "logs", range(1, 11))
    _write(tmp_path / "logs", range(6, 9))
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--host=127.0.0.1",
        "--port=0",
        f"--load_fast={fast}",
    ]
    with subprocess.Popen(
        [*command, f"--logdir={tmp_path / 'logs'}"], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            (address,) = itertools.islice(
                filter(None, (re.search(r"http://127.0.0.1:\d+/", line) for line in process.stderr)), 1
            )
            url = f"{address[0]}data/plugin/scalars/scalars?run=steps&tag=a"
            points = _when_there(lambda: json.load(urllib.request.urlopen(url)))
        finally:
            process.kill()
    assert [(step, value) for _, step, value in points] == [
        *((step, step + 0.5) for step in range(1, 6)),
        *((step, step + 3.0) for step in range(6, 9)),
    ]


def _when_there(read):
    ended = time.monotonic() + 60
    while True:
        try:
            return read()
        except urllib.error.HTTPError:  # it has not read the logs yet
            assert time.monotonic() < ended
            time.sleep(0.2)
