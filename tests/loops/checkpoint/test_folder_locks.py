"""One process at a time writes checkpoints to a folder, and clears away what dead ones had not finished."""

import os
import shutil

import keras
import pytest

from gradloop import loops
from gradloop.loops.checkpoint.folder_locks import lock_folder, unlock_folder
from tests.loops.folder_holder import holder


class Owner:
    pass


def test_a_folder_that_a_living_process_writes_to_is_refused(tiny, tmp_path):
    process = holder(str(tmp_path), "Checkpoint")
    try:
        held = (
            rf"`folder` '.*' is being written by process {process.pid} on \S+ since 20\S+ \S+: choose another"
        )
        checkpoint, step = loops.Checkpoint(tmp_path), tiny.step()
        for run in (
            lambda: checkpoint.save(step),
            lambda: loops.train(step, tiny.data(), epochs=1, checkpoint=checkpoint),
        ):
            with pytest.raises(ValueError, match=held):
                run()
        assert int(step.batches_done.numpy()) == 0 and checkpoint.restore(step) is None
    finally:
        process.kill()
        process.communicate()
    assert checkpoint.save(step) == str(tmp_path / "checkpoint-1"), "a dead one's is taken over"


def test_checkpoints_of_one_process_write_to_one_folder(tiny, tmp_path):
    step = tiny.step()
    first, second = loops.Checkpoint(tmp_path), loops.Checkpoint(tmp_path)
    for checkpoint in (first, second, first):
        checkpoint.save(step)
    loops.train(step, tiny.data(), epochs=1, resume=False, checkpoint=tmp_path)
    lock = tmp_path / ".gradloop-checkpoint-lock"
    assert lock.exists() and os.path.basename(second.newest) == "checkpoint-4"
    del first, checkpoint
    assert lock.exists()
    del second
    assert not lock.exists()


def test_a_run_within_a_run_is_refused(tiny, tmp_path):
    class Inner(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            loops.Checkpoint(tmp_path).save(step)  # in a hook of the run, it is the same writer
            loops.train(tiny.step(), tiny.data(), epochs=1, checkpoint=tmp_path)

    step = tiny.step()
    with pytest.raises(
        ValueError, match="by another `Checkpoint` of this process since .*, or end that first"
    ):
        loops.train(step, tiny.data(), epochs=1, callbacks=[Inner()], checkpoint=tmp_path)
    assert os.listdir(tmp_path) == ["checkpoint-1"], "the lock is gone with the run that failed"


def test_what_was_not_finished_is_cleared_away_and_nothing_else(tiny, kept):
    half = kept / "checkpoint-3"
    shutil.copytree(kept / "checkpoint-2", half)
    (half / "manifest.json").rename(half / "manifest.json.part")
    (half / "iterator_temp").mkdir()
    (kept / "checkpoint-4").mkdir()
    (kept / "checkpoint-5").mkdir()
    (kept / "checkpoint-5" / "model.keras").write_text("of the user's")
    loops.Checkpoint(kept).restore(tiny.step())
    assert half.exists(), "reading clears nothing away"
    loops.train(tiny.step(), tiny.data(), epochs=2, checkpoint=kept)
    assert sorted(os.listdir(kept)) == ["checkpoint-1", "checkpoint-2", "checkpoint-5"]


def test_who_takes_a_folder_first_is_told(tmp_path):
    one, other = Owner(), Owner()
    folder = str(tmp_path / "a")
    assert lock_folder(folder, one)
    assert not lock_folder(folder, other) and not lock_folder(folder + "/../a", one, run=True)
    with pytest.raises(ValueError, match="another `Checkpoint` of this process"):
        lock_folder(folder, other, run=True)
    unlock_folder(one)
    unlock_folder(one)
    assert not lock_folder(folder, other, run=True)
    unlock_folder(other)
    assert os.listdir(folder) == [] and lock_folder(folder, one)
    assert not lock_folder("ram://nobody-locks", other), "where there are no locks"


def test_a_folder_that_cannot_be_made(tmp_path, tiny):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="No checkpoint can be written in '.*file/a': "):
        loops.Checkpoint(tmp_path / "file" / "a").save(tiny.step())


def test_a_folder_that_is_removed_meanwhile(tiny, tmp_path):
    class Removes(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                assert loops.Checkpoint(folder).newest, "which waits for the thread that writes it"
                shutil.rmtree(folder)

    folder = tmp_path / "kept"
    with pytest.raises(
        OSError, match="No checkpoint can be written in '.*kept': .*No such file or directory"
    ):
        loops.train(tiny.step(), tiny.data(), epochs=3, callbacks=[Removes()], checkpoint=folder)
    assert not folder.exists()
