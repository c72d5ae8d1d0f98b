"""Every example on a small input: what it leaves, the same on two replicas, and that it stands alone."""

import math
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tqdm

from gradloop import loops
from tests.programs import Program

EXAMPLES = Path(__file__).parents[3] / "scripts" / "examples"
# For each: options that make it small, scalars and images that it logs, and the model that it saves.
WANTED = {
    "gan": (
        ["--epochs", "2", "--batch-size", "16"],
        {"generator_loss", "discriminator_loss"},
        {"fake_images": (140, 140, 1)},
        "generator.keras",
    ),
}
each_example = pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))


def started(name, *options):
    """An example in this process, as `python NAME.py OPTIONS` starts it."""
    arguments, sys.argv = sys.argv, [f"{name}.py", *map(str, options)]
    try:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    finally:
        sys.argv = arguments


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(file, x_train=rng.integers(0, 256, (50, 28, 28), dtype=np.uint8), y_train=rng.integers(0, 2, 50))
    return file


@pytest.fixture(scope="module")
def one_device(data, tmp_path_factory):
    """Runs an example on one device, once, and gives its log folder."""
    found = {}

    def run(name):
        if name not in found:
            found[name] = tmp_path_factory.mktemp(name)
            options = (*WANTED[name][0], "--data", data, "--log-dir", found[name])
            started(name, *options, "--strategy", "one")
        return found[name]

    return run


@each_example
def test_what_it_leaves(name, one_device):
    _, scalars, images, model = WANTED[name]
    folder = one_device(name)
    found: dict[str, list[tf.Tensor]] = {}
    for file in folder.glob("events*"):
        for record in tf.data.TFRecordDataset(str(file)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                found.setdefault(value.tag, []).append(value.tensor)
    for tag in scalars:
        assert len(found[tag]) == 2 and all(math.isfinite(tf.make_ndarray(value)) for value in found[tag])
    for tag, shape in images.items():
        assert tf.io.decode_png(found[tag][-1].string_val[2]).shape == shape
    assert (folder / model).exists()


@each_example
def test_two_replicas_give_the_numbers_of_one_device(name, data, one_device, tmp_path):
    options, _, _, model = WANTED[name]
    # As a program: logical devices are made before anything runs.
    options = [*options, "--data", data, "--log-dir", tmp_path, "--strategy", "mirrored:cpu:2"]
    shown = Program(EXAMPLES / f"{name}.py", *options, folder=tmp_path).finish()
    assert f"tensorboard --logdir {tmp_path}" in shown
    folders = one_device(name), tmp_path
    one, two = (keras.models.load_model(folder / model).get_weights() for folder in folders)
    for alone, replicated in zip(one, two, strict=True):
        # Eight steps of Adam in which each network's rounding goes through the other.
        np.testing.assert_allclose(replicated, alone, rtol=0, atol=1e-5 * max(np.abs(alone).max(), 1e-2))


@pytest.mark.parametrize("how", ["told to end", pytest.param("killed", marks=pytest.mark.release)])
def test_a_gan_that_was_stopped_ends_as_one_that_was_not(how, data, one_device, tmp_path, monkeypatch):
    options, _, _, model = WANTED["gan"]
    options = [*options, "--data", data, "--log-dir", tmp_path, "--strategy", "one"]
    shown = []

    def stop(bar, *args, **kwargs):
        shown.append(args)
        if len(shown) == 6:  # the second of four in the second epoch
            if how == "killed":
                raise MemoryError
            signal.raise_signal(signal.SIGTERM)

    ends = MemoryError if how == "killed" else loops.Preempted
    with monkeypatch.context() as patched, pytest.raises(ends):
        patched.setattr(tqdm.tqdm, "set_postfix", stop)
        started("gan", *options)
    assert len(shown) == 6 and not (tmp_path / model).exists()
    started("gan", *options)
    whole, resumed = (keras.models.load_model(folder / model) for folder in (one_device("gan"), tmp_path))
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@each_example
def test_a_misspelt_strategy_is_told(name, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'mirrored'"):
        started(name, "--strategy", "mirored", "--log-dir", tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


@each_example
def test_help_needs_no_tensorflow(name, tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "--strategy" in done.stdout


@each_example
def test_is_short_and_needs_nothing_else_of_this_folder(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 120
    imported = set(re.findall(r"^ *(?:from|import) +(\w+)", text, flags=re.MULTILINE))
    ours = {path.stem for path in EXAMPLES.parent.iterdir()} | {path.stem for path in EXAMPLES.iterdir()}
    assert "gradloop" in imported and not imported & ours
