"""`preflight` itself: what it says of sound networks, that it leaves all as it was, and what it refuses."""

import json
import random
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state

from gradloop import loops, models, optim
from gradloop.loops.preflight_checks import preflight as module
from gradloop.loops.support.dataset_order import variables_in
from tests.programs import Program
from tests.values import assert_same, numbers

from .conftest import SPARSE, check_complete, names

PROGRAMS = Path(__file__).parent / "programs"
RANDOM = np.random.RandomState(1)


def digits(examples=160):
    """Images of the kind of MNIST's: ten shapes, with gaps, pixels from 0 to 1."""
    y = np.arange(examples) % 10
    x = RANDOM.rand(10, 28, 28, 1)[y] * (RANDOM.rand(examples, 28, 28, 1) > 0.3)
    return x.astype("float32"), y


def lenet():
    return loops.TrainStep(models.LeNet5(), SPARSE, "adam", metrics=["accuracy"]), loops.Batches(
        *digits(), 32
    )


def fine_tuning():
    backbone = models.backbone("MobileNetV2", (32, 32, 3), weights=None)
    model = models.classifier(models.truncate(backbone, "block_3_expand_relu"), 2)
    optimizer = optim.GroupedOptimizer(
        keras.optimizers.Adam(1e-3), optim.partition(model, {"head": "head"}, rest="freeze")
    )
    x = RANDOM.randint(0, 256, (48, 32, 32, 3)).astype("uint8")
    return loops.TrainStep(model, SPARSE, optimizer), loops.Batches(x, np.arange(48) % 2, 16)


def masked_text():
    model = keras.Sequential(
        [
            keras.Input((9,), dtype="int64"),
            keras.layers.Embedding(20, 8, mask_zero=True),
            keras.layers.LSTM(8),
            keras.layers.Dense(1, "sigmoid"),
        ]
    )
    x = RANDOM.randint(1, 20, (96, 9)) * (np.arange(9) < RANDOM.randint(3, 10, (96, 1)))
    y = (x == 7).any(1, keepdims=True)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(96).batch(16).repeat()
    return loops.TrainStep(model, "binary_crossentropy", "adam"), data


def gan(part):
    layers = keras.layers
    generator = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(7 * 7 * 4, "relu"),
            layers.Reshape((7, 7, 4)),
            layers.Conv2DTranspose(4, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid"),
        ],
        name="generator",
    )
    discriminator = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 4, strides=2, padding="same", activation="leaky_relu"),
            layers.Flatten(),
            layers.Dense(1),
        ],
        name="discriminator",
    )
    model = keras.Sequential([generator, discriminator])
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")

    def loss(model, batch):
        real = batch[0]
        fakes = discriminator(
            generator(tf.random.normal((tf.shape(real)[0], 16)), training=True), training=True
        )
        if part == "generator":
            return loops.mean_loss(cross_entropy(tf.ones_like(fakes), fakes))
        reals = discriminator(real, training=True)
        wanted = 0.9 * tf.ones_like(reals)
        return loops.mean_loss(cross_entropy(wanted, reals) + cross_entropy(tf.zeros_like(fakes), fakes))

    optimizer = keras.optimizers.Adam(1e-3, beta_1=0.5, epsilon=1e-4)
    return loops.TrainStep(model, loss, optimizer, variables=f"{part}/*"), loops.Batches(
        digits()[0], None, 32
    )


def zero_weights():
    """A LoRA: of two factors one is zero, so the other has no gradient before the first step."""
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, "gelu"), keras.layers.Dense(3, "softmax")]
    )
    model.layers[0].enable_lora(2)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 5000, warmup_target=1e-3, warmup_steps=500)
    x = RANDOM.randn(96, 8)
    return loops.TrainStep(model, SPARSE, keras.optimizers.AdamW(schedule)), loops.Batches(
        x, np.arange(96) % 3, 32
    )


def half_precision():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu", dtype="mixed_float16")])
    model.add(keras.layers.Dense(3, "softmax", dtype="float32"))
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3))
    step = loops.TrainStep(model, SPARSE, optimizer, accumulate=3)
    return step, loops.Batches(RANDOM.randn(96, 8), np.arange(96) % 3, 32)


SOUND = {
    "LeNet-5": lenet,
    "generator": lambda: gan("generator"),
    "discriminator": lambda: gan("discriminator"),
    "zero weights": zero_weights,
}
SLOW = {"masked text": masked_text, "half precision": half_precision, "fine-tuning": fine_tuning}


@pytest.mark.parametrize("name", [*SOUND, *(pytest.param(each, marks=pytest.mark.release) for each in SLOW)])
def test_no_false_alarm(name, capsys):
    step, data = (SOUND | SLOW)[name]()
    before, traces = numbers(step.state()), step.traces
    report = loops.preflight(step, data)
    assert capsys.readouterr().out == f"{report}\n"
    assert report.ok and names(report) == [], str(report)
    check_complete(report)
    assert_same(numbers(step.state()), before)
    assert step.traces == traces == 0


def draws():
    """What the process draws next."""
    shuffled = tf.data.Dataset.range(9).shuffle(9)
    drawn = [
        random.random(),
        np.random.rand(),
        tf.random.uniform([]),
        tf.random.get_global_generator().normal([]),
    ]
    return [float(number) for number in [*drawn, keras.random.normal(()), *shuffled]]


def of_batches(lab):
    return lab.data(transform=lambda x, y, seed: (x + tf.random.stateless_normal(tf.shape(x), seed), y))


def of_dataset(lab):
    """Shuffles that count their passes, a cache, and a layer that counts its draws."""
    noise = keras.layers.GaussianNoise(0.1, seed=3)
    data = tf.data.Dataset.from_tensor_slices((lab.x, lab.y)).shuffle(96).cache().shuffle(96).batch(36)
    return data.map(lambda x, y: (noise(x, training=True), y))


def noisy(model, batch):
    x = batch[0] + 0.1 * tf.random.normal(tf.shape(batch[0])) + 0.1 * keras.random.normal((8,))
    return loops.mean_loss(keras.losses.sparse_categorical_crossentropy(batch[1], model(x, training=True)))


@pytest.mark.parametrize("begun", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize(("make", "loss"), [(of_batches, SPARSE), (of_dataset, noisy)])
def test_a_run_after_it_is_the_run_without_it(lab, make, loss, begun, capsys):
    def run(look):
        # New seeds make a new generator for `keras.random`, but in Keras 3.12.
        global_state.set_global_attribute("global_seed_generator", None)
        keras.utils.set_random_seed(7)
        tf.random.set_global_generator(tf.random.Generator.from_seed(1))
        model = lab.net(between=[keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)])
        step, data = lab.step(model, loss), make(lab)
        if begun:
            loops.train(step, data, epochs=1)
        if look:
            loops.preflight(step, data)
        history = loops.train(step, data, epochs=2).history
        return history, numbers(step.state()), draws(), step.traces

    without, with_it = run(False), run(True)
    assert with_it[0] == without[0] and with_it[2:] == without[2:]
    assert_same(with_it[1], without[1])


class Telling(keras.layers.Layer):
    """Records what it sees, and writes a summary of it."""

    def call(self, x):
        loops.record("seen", tf.reduce_mean(x))
        tf.summary.scalar("seen", tf.reduce_mean(x))
        return x


def test_what_a_step_records_and_writes_is_of_training_alone(lab, tmp_path, capsys):
    writer = tf.summary.create_file_writer(str(tmp_path))
    step = lab.step(lab.net(between=[Telling()]))
    with writer.as_default():
        report = loops.preflight(step, lab.data())
        writer.flush()
        before = [*tf.data.TFRecordDataset([str(path) for path in tmp_path.iterdir()])]
        step.run(iter(lab.data()), 2)
    writer.close()
    after = [*tf.data.TFRecordDataset([str(path) for path in tmp_path.iterdir()])]
    assert report.ok, report
    assert len(after) == len(before) + 2


@pytest.mark.parametrize("fails", ["overfit_few_examples", pytest.param("Probe", marks=pytest.mark.release)])
def test_all_is_as_it_was_after_an_error(lab, fails, monkeypatch):
    step, data = lab.step(lab.net(between=[keras.layers.Dropout(0.5)])), of_dataset(lab)
    (seeds,) = variables_in(data)
    before, seed, state = numbers(step.state()), seeds.numpy(), random.getstate()
    real = getattr(module, fails)

    def fail(*args, **kwargs):
        real(*args, **kwargs)
        random.random()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, fails, fail)
    with pytest.raises(KeyboardInterrupt):
        loops.preflight(step, data)
    assert_same(numbers(step.state()), before)
    np.testing.assert_array_equal(seeds.numpy(), seed)
    assert random.getstate() == state and step.traces == 0 and not step.interrupted


@pytest.mark.release
def test_on_replicas(tmp_path):
    """Logical devices must be made before TensorFlow starts."""
    said = json.loads(Program(PROGRAMS / "replicas.py", folder=tmp_path).finish().splitlines()[-1])
    assert said["found"] == [[], ["batch_for_norms"], []]
    assert "from 32 examples" in said["passed"] and "from 4 examples on each replica" in said["message"]
    assert said["as it was"] == [True, True, True]


@pytest.mark.release
def test_models_for_batches_of_one_size(lab, capsys):
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(16, 4, 2)),
            keras.layers.LSTM(4, stateful=True),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    step = lab.step(model, optimizer=keras.optimizers.Adam(2e-3))
    report = loops.preflight(step, lab.data(lab.x.reshape(-1, 4, 2), size=16))
    assert names(report) == [], str(report)


def test_data_that_cannot_be_copied_is_told(lab, monkeypatch, capsys):
    def fail(dataset):
        raise ValueError("TensorFlow cannot copy the dataset: no such thing\nand more")

    monkeypatch.setattr("gradloop.loops.preflight_checks.sample.dataset_copy", fail)
    report = loops.preflight(
        lab.step(), tf.data.Dataset.from_tensor_slices((lab.x, lab.y)).shuffle(96).batch(32)
    )
    assert report.left_out["data_as_it_was"].startswith(
        "TensorFlow cannot copy the dataset: no such thing, so"
    )


def test_refusals(lab):
    with pytest.raises(TypeError, match=r"`step` must be a `loops.TrainStep`, got 3: make one of the model"):
        loops.preflight(3, lab.data())
    with pytest.raises(
        TypeError, match=r"`data` must be a `loops.Batches` or a `tf.data.Dataset`, got .* wrap"
    ):
        loops.preflight(lab.step(), (lab.x, lab.y))
    with pytest.raises(TypeError, match="pass the data itself where you have an iterator"):
        loops.preflight(lab.step(), iter(lab.data()))
    empty = tf.data.Dataset.from_tensor_slices((lab.x, lab.y)).batch(8).take(0)
    with pytest.raises(ValueError, match=r"`data` is empty, .* pass data with at least one example"):
        loops.preflight(lab.step(), empty)


def test_several_workers_are_refused(lab, monkeypatch):
    monkeypatch.setattr(module, "has_other_workers", lambda strategy: True)
    with pytest.raises(
        ValueError, match=r"`step` belongs to a NoneType, on several workers: run the preflight in"
    ):
        loops.preflight(lab.step(), lab.data())
