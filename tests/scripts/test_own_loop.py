"""own_loop.py: short, and the same on one device and on two replicas."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import own_loop
import pytest
import tensorflow as tf

SCRIPT = Path(own_loop.__file__)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("data") / "images.npz"
    x = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    y = rng.integers(0, 2, 60)
    np.savez(file, x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    return file


def test_one_device_and_two_replicas(images, tmp_path, run, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    options = ("--data", images, "--epochs", 2, "--batch-size", 16)
    run(own_loop, "--strategy", "one", *options, "--log-dir", one)
    assert f"tensorboard --logdir {one}" in capsys.readouterr().out
    # As a program: two logical devices can be made before anything runs alone.
    command = [sys.executable, SCRIPT, "--strategy", "mirrored:cpu:2", *options, "--log-dir", two]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"tensorboard --logdir {two}" in done.stdout
    weights = [keras.models.load_model(folder / "generator.keras").get_weights() for folder in (one, two)]
    for alone, replicated in zip(*weights):
        # Eight steps of Adam in which each network's rounding goes through the other.
        np.testing.assert_allclose(replicated, alone, rtol=0, atol=1e-5 * max(np.abs(alone).max(), 1e-2))


def test_draws_into_tensorboard(images, tmp_path, run):
    run(own_loop, "--data", images, "--epochs", 1, "--batch-size", 50, "--log-dir", tmp_path)
    found = {}
    for file in tmp_path.glob("events*"):
        for record in tf.data.TFRecordDataset(str(file)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                found[value.tag] = value.tensor
    assert {"generator", "discriminator", "drawn"} <= found.keys()
    assert tf.io.decode_png(found["drawn"].string_val[2]).shape == (140, 140, 1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--strategy", "mirored"], "Did you mean 'mirrored'"),
        (["--epochs", "0"], "--epochs"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_bad_arguments(arguments, message, refusal):
    assert message in refusal(own_loop, *arguments)


def test_is_short():
    assert len(SCRIPT.read_text().splitlines()) < 120
