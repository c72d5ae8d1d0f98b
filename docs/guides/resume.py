# %% [markdown]
# # Stopping and resuming training
#
# After this page your training can be stopped at any moment (an error, `Ctrl-C`, `kill -9`, SIGTERM from
# a scheduler, a time limit), and the same call resumes training from the last checkpoint. The resumed run
# ends with the numbers of a run that was never stopped: on a CPU, bit for bit.
#
# A small network with dropout and Adam, which have state that could be lost:

# %%
import os
import signal
import tempfile
import time
import warnings

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops, models

rng = np.random.default_rng(0)
x = rng.random((400, 12), "float32")
y = (x.sum(axis=1) > 6).astype("int64")


def run(folder=None, epochs=3, callbacks=(), **options):
    """What a training script does: it makes everything from the beginning, and calls `train`."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((12,)),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dropout(0.3, seed=1),
        keras.layers.Dense(2, activation="softmax"),
    ])  # fmt: skip
    step = loops.TrainStep(model, "sparse_categorical_crossentropy", "adam", metrics=["accuracy"])
    data = loops.Batches(x, y, batch_size=16, seed=2)
    checkpoint = folder and loops.Checkpoint(folder, every_steps=5, **options)
    done = loops.train(step, data, epochs=epochs, checkpoint=checkpoint, callbacks=callbacks)
    return model, done.history


never_stopped, wanted = run()

# %% [markdown]
# `checkpoint="runs/a"`, a folder alone, saves after each epoch and when a run ends early. A `Checkpoint` has
# settings: this one saves every 5 steps too. A thread writes the files while training goes on; `train` does
# not end before they are on the disk.
#
# ## An error in the middle of an epoch
#
# This callback raises an error in step 38 of 75. It stands for a full disk, or a bug.


# %%
class Crash(keras.callbacks.Callback):
    """Ends a run by an error in one of its steps, counted from 0 over all epochs."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("something broke")


folder = tempfile.mkdtemp()
try:
    run(folder, callbacks=[Crash(at=37)])
except RuntimeError as error:
    print("the run ended:", error)

model, history = run(folder)  # the same call, as when the script is started again

assert history == wanted
assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), never_stopped.get_weights()))
print("resumed, and the same to the last bit:", [f"{loss:.6f}" for loss in history["loss"]])

# %% [markdown]
# The last checkpoint before the error was that of step 35, so some steps were computed again.
# (`loops.TensorBoard` still shows each step once.) In a checkpoint are:
#
# - weights, optimizer state (by name), learning rate, loss scale, and what trains at the moment;
# - the position in the data, within an epoch too, and the order that is still to come;
# - random numbers: the seeds of dropout, and of augmentation in a `Batches`;
# - the means of the running epoch, the history, and the state of `Unfreeze`, `EarlyStopping`,
#   `ReduceLROnPlateau`, and of each callback that has methods `state()` and `set_state(state)`.
#
# Your code, your data, and settings such as weight decay and clipping are not in it: they are those of the
# call. A warning tells if settings differ. On another number of devices, numbers are equal up to rounding.
#
# A run that is complete returns its history at once; with more `epochs` it goes on. `resume=False` begins a
# new run.

# %%
model, history = run(folder, epochs=4)
print(len(history["loss"]), "epochs")
assert len(history["loss"]) == 4 and history["loss"][:3] == wanted["loss"]

# %% [markdown]
# ## SIGTERM: what schedulers send
#
# Slurm, Kubernetes and cloud providers send SIGTERM before they take a machine away. With a checkpoint,
# `train` then finishes the steps that are running, saves, and raises `loops.Preempted`. If you do not catch
# it, the program ends with the exit status 75, without a traceback. SIGUSR1 does the same. `Ctrl-C` saves
# too, and then `train` returns, so that you can look at what was learned.


# %%
class SendSigterm(keras.callbacks.Callback):
    """Sends this process SIGTERM in a step of the first epoch, as a scheduler would."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 12:
            os.kill(os.getpid(), signal.SIGTERM)


folder = tempfile.mkdtemp()
try:
    run(folder, callbacks=[SendSigterm()])
except loops.Preempted as end:
    saved = os.path.basename(end.checkpoint)
    print(f"exit status {end.code}, after step {end.step}, saved in {saved}")
    assert (end.code, end.step) == (75, 13)

_, history = run(folder)
assert history == wanted

# %% [markdown]
# By the status 75 the scheduler sees that the run is saved and is to be started again. (An error has 1.)
# The script of a Slurm job, which gets the signal two minutes before its end (its shell part was tried,
# without Slurm):
#
# ```sh
# #SBATCH --requeue --signal=B:TERM@120
# python train.py & pid=$!
# trap 'kill -TERM $pid' TERM
# wait $pid; wait $pid; test $? = 75 && scontrol requeue $SLURM_JOB_ID
# ```
#
# In Kubernetes, a Job starts a failed pod again; a `podFailurePolicy` can ignore the status 75, so that it
# does not count as a failure. systemd: `RestartForceExitStatus=75`. The docstring of
# {py:class}`gradloop.loops.Preempted` lists more.
#
# If the scheduler sends no signal, set a time limit that is shorter than the job's. It counts from the call
# of `train`. Leave time for what your program does before, for tracing, and for saving. Here each step
# sleeps, so that the time is up soon:


# %%
class Sleep(keras.callbacks.Callback):
    """Makes each step take 0.3 seconds."""

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.3)


folder = tempfile.mkdtemp()
try:
    run(folder, callbacks=[Sleep()], time_limit="1s")  # on a cluster: time_limit="11h50m"
except loops.Preempted as end:
    print("the time is up; no signal came:", end.signal)

_, history = run(folder)
assert history == wanted

# %% [markdown]
# ## NaN: back to the last checkpoint
#
# `TrainStep(..., on_nonfinite="restore")` lets `train` go back to its last checkpoint when a step finds a
# NaN, and on from there at lower learning rates, a limited number of times
# ({py:class}`gradloop.loops.Restore` has the settings; [more about NaN](watching.py)).
#
# ## Which checkpoints stay
#
# The newest three, if you do not say otherwise. `keep` takes a list: what any of its entries wants to keep
# stays.

# %%
folder = tempfile.mkdtemp()
keep = [loops.Latest(2), loops.Best("loss"), loops.Every(steps=50)]
model, _ = run(folder, keep=keep)
checkpoint = loops.Checkpoint(folder, keep=keep)
print("newest", os.path.basename(checkpoint.newest), " best", os.path.basename(checkpoint.best))
models.load_weights(model, checkpoint.best)  # the weights alone, into any model with these names
kept = sorted(os.listdir(folder), key=lambda name: (len(name), name))
print([name for name in kept if name.startswith("checkpoint-")])

# %% [markdown]
# From the command line, `python -m gradloop.loops.checkpoint FOLDER` lists the checkpoints. `--verify`
# reads each file, and `--diff 3 4` tells what differs between two of them.

# %%
from gradloop.loops.checkpoint.__main__ import main as list_checkpoints  # what `python -m` runs

_ = list_checkpoints([folder, "--verify"])

# %% [markdown]
# ## Damaged files
#
# A power cut can leave half a file. Each checkpoint has a `manifest.json`, written last, with the size and
# SHA-256 of each file. A checkpoint that is damaged is skipped with a warning, and the run continues from
# the one before. (`on_damaged="raise"` makes it an error.)

# %%
state = os.path.join(checkpoint.newest, "state.data-00000-of-00001")
with open(state, "rb+") as file:
    file.truncate(os.path.getsize(state) // 2)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    _, history = run(folder)
print(str(told[0].message).replace(folder, "..."))
assert history == wanted

# %% [markdown]
# ## A loop of your own
#
# Without a `TrainStep`, save a dict of what the loop has. `restore` fills it, and returns the iterator at
# its place. In a `graceful_exit` block, signals wait until you ask for them.


# %%
def own_loop(folder, stop_at=None):
    """Two epochs of a loop by hand; returns its weights."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(2, activation="softmax")])
    update = loops.Update(keras.optimizers.Adam(), model.trainable_variables)

    @loops.replicated
    def step(x, y):
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
            loss = loops.mean_loss(losses)
        update(tape.gradient(loss, update.variables))
        return {"loss": loss}

    data = loops.Batches(x, y, batch_size=16, seed=2)
    state = {"model": model, "update": update, "steps": 0}  # seeds, metrics, numbers, text, ... too
    checkpoint = loops.Checkpoint(folder)
    batches = checkpoint.restore(state, data)  # the beginning of the data, if nothing is saved yet
    with loops.graceful_exit() as wanted:
        while batches.epoch < 2:
            for examples, labels in batches:
                step(examples, labels)
                state["steps"] += 1
                if state["steps"] == stop_at:
                    os.kill(os.getpid(), signal.SIGTERM)  # from outside
                if batches.remaining and wanted():
                    checkpoint.save(state, batches)
                    raise loops.Preempted
            batches = iter(data)
    assert state["steps"] == 50
    return model.get_weights()


folder = tempfile.mkdtemp()
try:
    own_loop(folder, stop_at=30)
except loops.Preempted:
    print("the loop was stopped, and is saved")
for resumed, straight in zip(own_loop(folder), own_loop(tempfile.mkdtemp()), strict=True):
    assert np.array_equal(resumed, straight)

# %% [markdown]
# [Loops of your own](../own_loops.md) lists what the dict may hold. [Reliability](../reliability.md) tells
# how often runs were killed in tests, and with which numbers they ended.
# [Devices](devices.py) shows restarts of several workers. To keep a trained model for use elsewhere, see
# [saving](saving.py).
