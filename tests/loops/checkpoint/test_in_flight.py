"""A thread writes a checkpoint while training goes on: what it writes, what waits for it, and its errors."""

import contextlib
import errno
import os
import re
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.checkpoint import in_flight
from gradloop.loops.checkpoint.save_and_restore import store_of
from gradloop.loops.checkpoint.saved_step import SavedStep
from gradloop.loops.checkpoint.tensor_file import TensorFile
from gradloop.loops.checkpoint.whole import read_whole, write_checkpoint
from tests.programs import Program

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Writer:
    """Stands for the function by which threads write: it waits until `go` is set."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()
        self.error = None
        self.writing = self.most = 0  # threads at once

    def __call__(self, *arguments):
        self.writing += 1
        self.most = max(self.most, self.writing)
        self.begun.set()
        assert self.go.wait(60)
        try:
            if self.error is not None:
                raise self.error
            write_checkpoint(*arguments)
        finally:
            self.writing -= 1


@pytest.fixture
def writer(monkeypatch):
    made = Writer()
    monkeypatch.setattr(in_flight, "write_checkpoint", made)
    yield made
    made.go.set()


def numbers(variables):
    return {name: np.array(variable.numpy()) for name, variable in variables.items()}


def test_threads_that_save_at_once_wait_for_each_other(tmp_path):
    checkpoint = loops.Checkpoint(tmp_path, keep=9)

    def save():
        for number in range(2):
            checkpoint.save({"number": number}, background=bool(number))

    threads = [threading.Thread(target=save) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    checkpoint.restore({"number": None})
    assert len(list(tmp_path.glob("checkpoint-*/manifest.json"))) == 6


def test_it_writes_what_was_there_at_the_call(writer, tmp_path):
    """Whatever changes it since: updates, dense and sparse, compiled steps, assignments, Python."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Embedding(50, 3), keras.layers.Dense(4)])
    update = loops.Update(keras.optimizers.Adam(0.1), model.trainable_variables)
    array, counts, compiled = np.arange(6.0), {"seen": [1]}, tf.Variable(tf.ones(300))
    seeds, plain = keras.random.SeedGenerator(3), tf.Variable(tf.ones((2, 2)))
    objects = {"model": model, "update": update, "array": array, "counts": counts, "seeds": seeds}
    objects |= {"plain": plain, "compiled": compiled}

    @tf.function(jit_compile=True)
    def compiled_step():
        compiled.assign_add(tf.sqrt(compiled))

    def go_on():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(np.array([[1, 2], [3, 3]])) ** 2)
        update(tape.gradient(loss, model.trainable_variables))
        compiled_step()
        plain.assign_add(tf.ones((2, 2)))
        plain[0, 1].assign(9.0)
        plain.scatter_nd_update([[1, 1]], [7.0])
        keras.random.uniform((), seed=seeds)
        array[:] += 1
        counts["seen"][0] += 1

    go_on()
    named = {f"model/{name}": variable for name, variable in zip(("e", "k", "b"), model.weights)}
    named |= {"plain": plain, "compiled": compiled, "seeds": seeds.state}
    before, held = numbers(named), array.copy()
    place = loops.Checkpoint(tmp_path).save(objects, background=True)
    for _ in range(3):
        go_on()
    assert not any(np.array_equal(before[name], value) for name, value in numbers(named).items())
    assert os.listdir(place) == ["manifest.json.part"]
    writer.go.set()
    assert loops.Checkpoint(tmp_path).newest == place
    file = TensorFile(f"{place}/state")
    for own, name in zip(("e", "k", "b"), ("embedding/embeddings", "dense/kernel", "dense/bias")):
        np.testing.assert_array_equal(file.values[f"model/{name}"], before[f"model/{own}"])
    for name in ("plain", "compiled", "seeds"):
        np.testing.assert_array_equal(file.values[name], before[name])
    np.testing.assert_array_equal(file.values["gradloop/objects/array"], held)
    assert int(file.values["update/optimizer/iteration"]) == 1
    assert file.metadata["objects"]["counts"]["note"] == {"json": {"seen": [2]}}
    # What is restored is a variable's own, too, as far as anyone can see.
    loops.Checkpoint(tmp_path).restore(objects)
    kept = numbers({name: tf.Variable(value) for name, value in file.values.items()})
    for _ in range(2):
        go_on()
    for name, value in file.values.items():
        np.testing.assert_array_equal(value, kept[name])


def test_at_most_one_is_in_flight(tiny, writer, tmp_path):
    """In a folder, of all `Checkpoint`s of a process."""
    step = tiny.step()
    places = [loops.Checkpoint(tmp_path, keep=9).save(step, background=True)]
    later = threading.Thread(
        target=lambda: places.append(loops.Checkpoint(f"{tmp_path}/", keep=9).save(step, background=True))
    )
    later.start()
    time.sleep(0.05)
    assert sorted(os.listdir(tmp_path)) == [".gradloop-checkpoint-lock", "checkpoint-1"]
    writer.go.set()
    later.join()
    places.append(loops.Checkpoint(tmp_path, keep=9).save(step))
    assert writer.most == 1
    for number, place in enumerate(places, start=1):
        assert place.endswith(f"checkpoint-{number}") and read_whole(place)


def test_the_folder_is_held_until_it_is_written(tiny, writer, tmp_path):
    place = loops.Checkpoint(tmp_path).save(tiny.step(), background=True)
    lock = tmp_path / ".gradloop-checkpoint-lock"
    assert lock.exists(), "the `Checkpoint` is gone"
    writer.go.set()
    assert loops.Checkpoint(tmp_path).newest == place
    deadline = time.monotonic() + 60
    while lock.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not lock.exists()


def test_a_second_ctrl_c_lets_no_folder_go_that_a_thread_writes_to(tiny, writer, tmp_path, monkeypatch):
    lock, step = tmp_path / ".gradloop-checkpoint-lock", tiny.step()

    def interrupted(folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with store_of(loops.Checkpoint(tmp_path)).locked(None):
            place = store_of(loops.Checkpoint(tmp_path)).save(SavedStep(step), {}, background=True)
            monkeypatch.setattr(in_flight, "wait_for", interrupted)
    assert lock.exists() and writer.begun.wait(60)
    writer.go.set()
    assert loops.Checkpoint(tmp_path).newest == place and not lock.exists()


@pytest.mark.parametrize("call", ["save", "restore", "train"])
def test_an_error_is_told_at_once_and_raised_by_the_next_call(tiny, writer, call, tmp_path, capsys):
    step, checkpoint = tiny.step(), loops.Checkpoint(tmp_path)
    writer.go.set()
    whole = checkpoint.save(step, background=True)
    assert checkpoint.newest == whole
    writer.error = FULL
    half = checkpoint.save(step, background=True)
    assert checkpoint.newest == whole and not os.path.exists(half)
    told = f"{os.strerror(errno.ENOSPC)} {whole!r} before it is whole."
    assert capsys.readouterr().err == f"{told}\n".replace("No space", "[Errno 28] No space")
    writer.error = None
    calls = {
        "save": lambda: checkpoint.save(step),
        "restore": lambda: checkpoint.restore(step),
        "train": lambda: loops.train(step, tiny.data(), epochs=1, checkpoint=loops.Checkpoint(tmp_path)),
    }
    with pytest.raises(OSError, match="No space left on device .*checkpoint-1' before it is whole"):
        calls[call]()
    assert checkpoint.save(step) == half, "once"


@pytest.mark.parametrize("error", [RuntimeError("out of threads"), MemoryError()])
def test_an_error_of_any_kind_is_told_and_an_oserror(tiny, writer, error, tmp_path, capsys):
    """Else it would go unseen where no call follows, and workers that wait for the chief would wait on."""
    writer.error = error
    writer.go.set()
    checkpoint = loops.Checkpoint(tmp_path)
    checkpoint.save(tiny.step(), background=True)
    assert checkpoint.newest is None
    told = f"No checkpoint can be written: {error!r}. There is none before it."
    assert capsys.readouterr().err == f"{told}\n"
    with pytest.raises(OSError, match=re.escape(told)):
        checkpoint.save(tiny.step())


def test_a_thread_that_may_start_none_writes(tiny, monkeypatch, tmp_path):
    """As in a program that ends, on some Python 3.12."""
    main, start = threading.current_thread(), threading.Thread.start

    def start_of_main(thread):
        if threading.current_thread() is not main:
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_of_main)
    place = loops.Checkpoint(tmp_path).save(tiny.step(), background=True)
    assert loops.Checkpoint(tmp_path).newest == place and read_whole(place, digests=True)


class Saw(loops.StepsCallback):
    """Lets the thread write when a later step has run; then raises, if it is to."""

    def __init__(self, writer, error=None):
        super().__init__()
        self.writer, self.error = writer, error

    def steps_allowed(self, done):
        return 1

    def on_train_steps_end(self, first, values):
        if first == 3:  # while the state of the second step is written
            assert self.writer.begun.wait(60) and self.writer.writing == 1
            self.writer.go.set()
            if self.error is not None:
                raise self.error


def run(tiny, writer, folder, error=None):
    checkpoint = loops.Checkpoint(folder, every_steps=2, keep=9, verbose=0)
    try:
        loops.train(tiny.step(), tiny.data(), epochs=2, callbacks=[Saw(writer, error)], checkpoint=checkpoint)
    finally:
        assert writer.begun.is_set() and writer.writing == 0


def test_training_goes_on_and_its_end_waits(tiny, writer, tmp_path):
    run(tiny, writer, tmp_path)
    names = sorted(os.listdir(tmp_path))
    assert names == [f"checkpoint-{number}" for number in (1, 2, 3, 4)]
    for name in names:
        assert read_whole(str(tmp_path / name))


@pytest.mark.parametrize("error", [ValueError("of a callback"), KeyboardInterrupt(), SystemExit(3)])
def test_every_end_waits(tiny, writer, error, tmp_path):
    with contextlib.suppress(ValueError, SystemExit):
        run(tiny, writer, tmp_path, error)
    assert read_whole(str(tmp_path / "checkpoint-1")).values["batches_done"] == 2


def test_an_error_of_the_thread_is_told_with_that_of_the_run(tiny, writer, tmp_path):
    writer.error = FULL
    with pytest.raises(ValueError, match="of a callback") as caught:
        run(tiny, writer, tmp_path, ValueError("of a callback"))
    assert any("No space left on device There is none before it." in note for note in caught.value.__notes__)
    writer.begun.clear()
    writer.go.clear()
    with pytest.raises(OSError, match="There is none before it"):
        run(tiny, writer, tmp_path)


def test_a_program_that_ends_waits(tmp_path):
    Program(Path(__file__).parent / "programs" / "saves_in_background.py", tmp_path, folder=tmp_path).finish()
    file = read_whole(str(tmp_path / "checkpoint-1"), digests=True)
    assert sorted(os.listdir(tmp_path / "checkpoint-1"))[1:3] == [
        "state.data-00000-of-00004",
        "state.data-00001-of-00004",
    ]
    for number in range(4):
        np.testing.assert_array_equal(file.values[f"weights/{number}"], np.full((1000,), number, "float32"))
