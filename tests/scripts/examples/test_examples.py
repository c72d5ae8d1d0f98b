"""Every example on a small input: what it leaves, the same on two replicas, and that it stands alone."""

import math
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import tqdm

from gradloop import loops
from tests.programs import Program

EXAMPLES = Path(__file__).parents[3] / "scripts" / "examples"


class Wanted(NamedTuple):
    """What an example is to leave.

    Attributes:
        options: that make it small.
        scalars: in TensorBoard; tag to how many points of it, tags of several runs together.
        model: the file that it saves; '' for none.
        pictures: files.
        images: in TensorBoard; tag to shape.
        takes_data: whether it has the option `--data`.
        replicas: how far weights on two replicas may be from those on one device, as a share of the largest;
            None where an example has no option `--strategy`.
    """

    options: str
    scalars: dict[str, int]
    model: str = ""
    pictures: tuple[str, ...] = ()
    images: dict[str, tuple[int, ...]] = {}
    takes_data: bool = False
    replicas: float | None = None


WANTED = {
    "contrastive": Wanted(
        "--epochs 2 --batch-size 16",
        {"step/loss": 6},
        "encoder.keras",
        takes_data=True,
        replicas=1e-4,
    ),
    "distillation": Wanted(
        "--teacher-epochs 1 --epochs 1 --examples 8 --batch-size 8",
        {"epoch/sparse_categorical_accuracy": 6},
        "student.keras",
        takes_data=True,
    ),
    "gan": Wanted(
        "--epochs 2 --batch-size 16",
        {"generator_loss": 2, "discriminator_loss": 2},
        "generator.keras",
        images={"fake_images": (140, 140, 1)},
        takes_data=True,
        replicas=1e-5,  # eight steps of Adam in which each network's rounding goes through the other
    ),
    "parameter_servers": Wanted(
        "--strategy one --ratings 600 --epochs 2",
        {"training_error": 2, "test_error": 2},
        "tables.keras",
    ),
    "policy_gradient": Wanted(
        "--updates 3 --episodes 6",
        {"expected_loss": 3, "lasted": 3},
        "policy.keras",
        replicas=1e-5,
    ),
    "regularizers": Wanted(
        "--examples 20 --epochs 1 --runs 1 --batch-size 10", {"epoch/accuracy": 12}, takes_data=True
    ),
    "segmentation": Wanted(
        "--examples 8 --epochs 2 --batch-size 4",
        {"epoch/loss": 4, "epoch/iou": 4},
        "unet.keras",
        pictures=("segments.png",),
        replicas=1e-3,  # BatchNorm over four images magnifies rounding
    ),
    "text_transformer": Wanted(
        "--examples 40 --epochs 2 --batch-size 16 --blocks 1",
        {"epoch/accuracy": 4},
        "transformer.keras",
    ),
    "truncated_backprop": Wanted(
        f"--text {EXAMPLES / 'gan.py'} --epochs 2 --streams 8",
        {"epoch/loss": 4},
        "text.keras",
    ),
    "vae": Wanted(
        "--epochs 2 --batch-size 16",
        {"epoch/reconstruction": 4, "epoch/divergence": 4, "step/reconstruction": 6},
        "decoder.keras",
        pictures=("images.png",),
        takes_data=True,
    ),
    "wasserstein_gan": Wanted(
        "--steps 3 --batch-size 6",
        {"step/distance": 3, "step/penalty": 3},
        "generator.keras",
        pictures=("points.png",),
        replicas=1e-5,
    ),
}
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
each_example = pytest.mark.parametrize("name", NAMES)
# A loop of one's own, and one by `train`; the others for a release.
each_alone = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("gan", "vae") else pytest.mark.release) for name in NAMES],
)
ON_REPLICAS = [name for name in NAMES if WANTED[name].replicas is not None]
# In which every other example is another instance of what the first shows: what they have on replicas
# (BatchNorm, weights of examples, a loss over pairs) is beside one device in `tests/loops/grid`.
MARKS: dict[str, Any] = {name: pytest.mark.long for name in ON_REPLICAS} | {
    "gan": (),
    "policy_gradient": pytest.mark.release,
}
each_on_replicas = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS[name]) for name in ON_REPLICAS]
)


def started(name, *options):
    """An example in this process, as `python NAME.py OPTIONS` starts it."""
    arguments, sys.argv = sys.argv, [f"{name}.py", *map(str, options)]
    try:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    finally:
        sys.argv = arguments


def arguments(name, data, log_dir, strategy):
    """An example's command line, with those options that it has."""
    wanted = WANTED[name]
    given = [*wanted.options.split(), "--log-dir", log_dir]
    given += ["--data", data] if wanted.takes_data else []
    return given + (["--strategy", strategy] if wanted.replicas is not None else [])


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
            started(name, *arguments(name, data, found[name], strategy="one"))
        return found[name]

    return run


@each_alone
def test_what_it_leaves(name, one_device):
    wanted, folder = WANTED[name], one_device(name)
    found: dict[str, list[tf.Tensor]] = {}
    for file in folder.rglob("events*"):
        for record in tf.data.TFRecordDataset(str(file)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                found.setdefault(value.tag, []).append(value.tensor)
    for tag, points in wanted.scalars.items():
        values = [tf.make_ndarray(value) for value in found[tag]]
        assert len(values) == points and all(map(math.isfinite, values))
    for tag, shape in wanted.images.items():
        assert tf.io.decode_png(found[tag][-1].string_val[2]).shape == shape
    for picture in wanted.pictures:
        assert tf.math.reduce_std(tf.cast(tf.io.decode_png((folder / picture).read_bytes()), tf.float32)) > 10
    assert (folder / wanted.model).exists()


@each_on_replicas
def test_two_replicas_give_the_numbers_of_one_device(name, data, one_device, tmp_path):
    # As a program: logical devices are made before anything runs.
    given = arguments(name, data, tmp_path, strategy="mirrored:cpu:2")
    shown = Program(EXAMPLES / f"{name}.py", *given, folder=tmp_path).finish()
    assert str(tmp_path / WANTED[name].model) in shown
    folders = one_device(name), tmp_path
    one, two = (keras.models.load_model(folder / WANTED[name].model).get_weights() for folder in folders)
    for alone, replicated in zip(one, two, strict=True):
        bound = WANTED[name].replicas * max(np.abs(alone).max(), 1e-2)
        np.testing.assert_allclose(replicated, alone, rtol=0, atol=bound)


@pytest.mark.parametrize("how", ["told to end", pytest.param("killed", marks=pytest.mark.long)])
def test_a_gan_that_was_stopped_ends_as_one_that_was_not(how, data, one_device, tmp_path, monkeypatch):
    model, options = WANTED["gan"].model, arguments("gan", data, tmp_path, strategy="one")
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


@pytest.mark.parametrize("name", ON_REPLICAS)
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
    assert "--log-dir" in done.stdout


@each_example
def test_is_short_and_needs_nothing_else_of_this_folder(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 120
    imported = set(re.findall(r"^ *(?:from|import) +(\w+)", text, flags=re.MULTILINE))
    ours = {path.stem for path in EXAMPLES.parent.iterdir()} | {path.stem for path in EXAMPLES.iterdir()}
    assert "gradloop" in imported and not imported & ours


@pytest.mark.long  # `tests/loops/training/test_workers.py` trains on parameter servers, too
def test_tables_on_a_parameter_server(tmp_path):
    script = EXAMPLES / "parameter_servers.py"
    given = ["--workers", 2, "--parameter-servers", 1, script, "--log-dir", tmp_path]
    shown = Program(EXAMPLES.parent / "launch.py", *given, folder=tmp_path).finish()
    error = re.search(r"6,000 ratings held out: ([\d.]+)", shown)
    assert error is not None and 0.3 < float(error[1]) < 0.33  # the noise, and what is wrong with the tables
    assert (tmp_path / WANTED["parameter_servers"].model).exists()
