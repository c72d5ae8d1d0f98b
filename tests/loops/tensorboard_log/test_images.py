"""The tab Images: what is read, what is drawn, and that nothing else changes."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.tensorboard_log.confusion import confusion_picture
from gradloop.loops.tensorboard_log.evaluation import evaluate_examples, examples_picture
from gradloop.loops.tensorboard_log.examples import Examples, Predictor
from gradloop.loops.tensorboard_log.images import _first_kernel
from gradloop.loops.tensorboard_log.pictures import Scale, filters_picture
from tests.loops.tensorboard_log.conftest import picture_of, values_in
from tests.loops.training.test_workers import ports, tasks
from tests.programs import Program
from tests.values import assert_same, numbers


def _counts(truth, predicted, classes):
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def _losses(shares, truth):
    return -np.log(shares[np.arange(len(truth)), truth])


def test_after_each_epoch(logged):
    found = logged.values("validation", "images/")
    assert set(found) == {f"images/{name}" for name in ("examples", "worst", "confusion", "filters")}
    assert all([step for step, _ in values] == [1, 2] for values in found.values())
    last = {tag: picture_of(values[-1][1]) for tag, values in found.items()}
    x, y = logged.digits.x[::-1], logged.digits.y[::-1]
    shares = logged.step.model.predict(x, verbose=0)
    counts = _counts(y, shares.argmax(-1), 3)
    np.testing.assert_array_equal(last["images/confusion"], confusion_picture(counts))
    kernel = logged.step.model.get_layer("conv").kernel.numpy()
    np.testing.assert_array_equal(last["images/filters"], filters_picture(kernel))
    for tag, order in (("examples", np.arange(3)), ("worst", np.argsort(-_losses(shares, y))[:3])):
        for place, index in enumerate(order):
            pixels = np.rint(x[index] * 255).astype(int).repeat(12, 0).repeat(12, 1).repeat(3, -1)
            left = 9 + place * 108  # a frame of 3, and a gap of 6
            np.testing.assert_array_equal(last[f"images/{tag}"][9:105, left : left + 96], pixels)
            right = y[index] == shares[index].argmax()
            assert (last[f"images/{tag}"][7, left + 50] == ((40, 160, 60) if right else (214, 39, 40))).all()
    told = {tag: values[0][1].metadata.summary_description for tag, values in found.items()}
    assert "Values from 0 to 1." in told["images/examples"]
    assert "of 20 examples (3 batches) of the validation data" in told["images/worst"]
    assert "`conv`, (3, 3, 1, 4)" in told["images/filters"]


class Drawing(keras.layers.Layer):
    """Draws random numbers and counts its calls, in inference mode too."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(3)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x):
        self.calls.assign_add(1.0)
        loops.record("calls", self.calls)
        tf.summary.scalar("summary", self.calls)
        return x + 1e-3 * keras.random.normal((), seed=self.seeds) + 1e-3 * self.calls


def _source(digits, kind):
    if kind == "batches":
        return digits.data()
    data = tf.data.Dataset.from_tensor_slices((digits.x, digits.y))
    return data.cache().shuffle(20, seed=1).batch(5)


@pytest.mark.parametrize("kind", ["batches", "dataset"])
@pytest.mark.parametrize("validated", [False, True])
def test_nothing_of_the_run_changes(tmp_path, digits, kind, validated):
    def run(images):
        small = digits.model()
        out = keras.layers.Dense(3)(keras.layers.Flatten()(Drawing()(small.inputs[0])))
        step = digits.step(keras.Model(small.inputs, keras.ops.softmax(out)))
        data = _source(digits, kind)
        validation = _source(digits, kind) if validated else None
        board = loops.TensorBoard(tmp_path / str(images), images=images)
        own = tmp_path / f"own{images}"
        with tf.summary.create_file_writer(str(own)).as_default():
            history = loops.train(
                step, data, epochs=2, steps_per_epoch=3, validation=validation, callbacks=[board]
            ).history
        written = sum(len(values) for values in values_in(own).values())
        return numbers(step.state()), history, written

    (with_images, *told), (without, *told_without) = run(2), run(0)
    assert {name for name in without if "seed" in name} and told[1] > 0 and told == told_without
    assert_same(with_images, without)
    assert (tmp_path / "2" / ("validation" if validated else "train")).is_dir()


def test_a_loss_of_ones_own(tmp_path, digits):
    def loss(model, batch, training=True):
        x, y = batch
        shares = model(x, training=training)
        return loops.mean_loss(keras.losses.sparse_categorical_crossentropy(y, shares)), shares

    step = loops.TrainStep(digits.model(), loss, keras.optimizers.SGD(0.1))
    loops.train(step, digits.data(), epochs=1, callbacks=[loops.TensorBoard(tmp_path, images=1)])
    found = values_in(tmp_path / "train", "images/")
    shares = step.model.predict(digits.x, verbose=0)
    worst = digits.x[np.argmax(_losses(shares, digits.y))]
    pixels = np.rint(worst * 255).astype(int).repeat(12, 0).repeat(12, 1).repeat(3, -1)
    np.testing.assert_array_equal(picture_of(found["images/worst"][0][1])[9:105, 9:105], pixels)
    assert "images/confusion" in found


def test_a_network_whose_outputs_are_images(tmp_path, digits):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(1, 3, padding="same")])
    step = loops.TrainStep(model, "mse", "sgd")
    data = loops.Batches(digits.x, digits.x, 5, shuffle=False)
    loops.train(step, data, epochs=1, callbacks=[loops.TensorBoard(tmp_path, images=1)])
    found = values_in(tmp_path / "train", "images/")
    assert set(found) == {"images/examples", "images/worst", "images/filters"}
    picture = picture_of(found["images/examples"][0][1])
    np.testing.assert_array_equal(picture[9:105, 9:105], picture[9:105, 105:201])  # the input is the truth
    output = model.predict(digits.x[:1], verbose=0)[0]
    pixels = np.rint(np.clip(output, 0, 1) * 255).repeat(12, 0).repeat(12, 1).repeat(3, -1)
    np.testing.assert_allclose(picture[9:105, 201:297], pixels, atol=1)


@pytest.mark.parametrize("classes", [3, 4, 5])
def test_a_class_of_each_pixel(classes):
    """Input, truth and what is predicted in a row; the shares of three or four classes are no colours."""
    truth = np.arange(64).reshape(1, 8, 8) % classes
    shares = np.eye(classes)[(truth + 1) % classes]
    examples = Examples(np.zeros((1, 8, 8, 1)), truth, shares, None)
    picture = examples_picture(examples, Scale.of(examples.images), logits=False)
    for left, expected in ((105, truth), (201, (truth + 1) % classes)):
        grey = np.rint(expected[0] / (classes - 1) * 255)
        np.testing.assert_array_equal(picture[9:105:12, left : left + 96 : 12, 0], grey)


def test_several_runs_in_a_process_are_no_retracing(digits, monkeypatch):
    told = []
    monkeypatch.setattr(tf.get_logger(), "warning", lambda *given: told.append(given))
    loss_and_metrics = digits.step().loss_and_metrics
    for _ in range(6):
        (examples,) = Predictor(loss_and_metrics, "data").read(digits.data(), 1)
    assert len(examples.images) == 5 and told == []


def test_finding_the_worst():
    random = np.random.RandomState(0)
    images, losses = random.rand(30, 2, 2, 1), random.rand(30).astype("float32")
    losses[17] = np.nan
    truth, scores = random.randint(0, 3, 30), random.rand(30, 3)
    shares = scores / scores.sum(1, keepdims=True)
    parts = [Examples(images[s], truth[s], shares[s], losses[s]) for s in (slice(0, 7), slice(7, 30))]
    found = evaluate_examples(parts, 5, logits=False)
    order = np.argsort(-np.nan_to_num(losses, nan=np.inf))[:5]
    assert order[0] == 17
    np.testing.assert_array_equal(found.worst.images, images[order])
    np.testing.assert_array_equal(found.first.images, images[:5])
    np.testing.assert_array_equal(found.counts, _counts(truth, shares.argmax(-1), 3))
    assert found.read == "30 examples (2 batches)"


def test_finding_among_images_of_several_sizes_and_no_losses():
    parts = [Examples(np.zeros((2, size, size, 3)), None, None, None) for size in (4, 8, 4)]
    found = evaluate_examples(parts, 5, logits=False)
    assert found.first.images.shape == (4, 4, 4, 3) and found.worst is None and found.counts is None
    assert examples_picture(found.first, Scale.of(found.first.images), False).shape[-1] == 3


def test_padding_of_weight_0_is_left_out(tmp_path, digits):
    weight = np.ones(20, "float32")
    weight[12:] = 0
    data = loops.Batches(digits.x, digits.y, 5, sample_weight=weight, shuffle=False)
    loops.train(digits.step(), data, epochs=1, callbacks=[loops.TensorBoard(tmp_path, images=1)])
    [(_, value)] = values_in(tmp_path / "train", "images/worst")["images/worst"]
    assert "of 12 examples (4 batches)" in value.metadata.summary_description


def _words():
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Embedding(9, 2), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    return model, np.zeros((4, 6), "int32")


def _features():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), np.zeros((4, 3), "float32")


def _without_channels():
    model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(2)])
    return model, np.zeros((4, 8, 8), "float32")


def _bools():
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    return model, np.zeros((4, 8, 8, 1), bool)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_words, r"\(4, 6\) int32"),
        (_features, r"\(4, 3\) float32"),
        (_without_channels, r"\(4, 8, 8\) float32"),
        (_bools, r"\(4, 8, 8, 1\) bool"),
    ],
)
@pytest.mark.parametrize("validated", [False, True])
def test_what_is_no_image_is_refused_at_the_start(tmp_path, make, told, validated):
    model, x = make()
    step, data = loops.TrainStep(model, "mse", "sgd"), loops.Batches(x, np.zeros((4, 2)), 4)
    name = "validation" if validated else "data"
    message = f"`images` draws the inputs of `{name}`, .* but {told}: an image is .* channels. of numbers"
    board = loops.TensorBoard(tmp_path, images=1)
    with pytest.raises(ValueError, match=message):
        loops.train(step, data, epochs=1, validation=data if validated else None, callbacks=[board])
    assert int(step.batches_done.numpy()) == 0


def test_a_dataset_of_unknown_shapes_is_refused_when_it_is_read(tmp_path):
    model, x = _features()
    signature = (tf.TensorSpec(None, tf.float32), tf.TensorSpec([None, 2], tf.float32))
    data = tf.data.Dataset.from_generator(lambda: iter([(x, np.zeros((4, 2)))]), output_signature=signature)

    def loss(model, batch, training=True):
        return tf.reduce_mean(model(tf.ensure_shape(batch[0], [None, 3]), training=training))

    step = loops.TrainStep(model, loss, "sgd")
    with pytest.raises(ValueError, match=r"`images` draws the inputs of `data`, .* but \(4, 3\) float32"):
        loops.train(step, data, epochs=1, callbacks=[loops.TensorBoard(tmp_path, images=1)])


def test_images_among_several_inputs_and_half_precision(tmp_path, digits):
    picture, other = keras.Input((8, 8, 3), name="picture"), keras.Input((2,), name="other")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(picture), other])
    model = keras.Model({"other": other, "picture": picture}, keras.layers.Dense(1, "sigmoid")(joined))
    x = {"other": np.ones((20, 2), "float16"), "picture": digits.x.repeat(3, -1).astype("float16")}
    step = loops.TrainStep(model, "binary_crossentropy", "sgd")
    data = loops.Batches(x, (digits.y > 0).astype("float32")[:, None], 5)
    loops.train(step, data, epochs=1, callbacks=[loops.TensorBoard(tmp_path, images=1)])
    [(_, value)] = values_in(tmp_path / "train", "images/confusion")["images/confusion"]
    shares = model.predict(x, verbose=0)[:, 0]
    np.testing.assert_array_equal(
        picture_of(value), confusion_picture(_counts((digits.y > 0) * 1, (shares > 0.5) * 1, 2))
    )


def test_a_convolution_that_never_ran_has_no_filters(digits):
    class Spare(keras.Model):
        def __init__(self):
            super().__init__()
            self.spare, self.conv = keras.layers.Conv2D(2, 3), keras.layers.Conv2D(3, 3)

        def build(self, shape):
            self.conv.build(shape)

        def call(self, inputs):
            return self.conv(inputs)

    model = Spare()
    model(digits.x)
    name, kernel = _first_kernel(model)
    assert name == "conv" and kernel.shape == (3, 3, 1, 3)


PROGRAM = Path(__file__).parent / "programs" / "on_replicas.py"


def test_two_replicas(tmp_path):
    Program(PROGRAM, tmp_path, "mirrored:cpu:2", folder=tmp_path).finish()


@pytest.mark.release
def test_two_workers_of_which_the_chief_reads_and_writes(tmp_path):
    with tasks(PROGRAM, {"worker": ports(2)}, tmp_path, "multiworker") as started:
        first, second = [process.finish(timeout=200) for process in started.values()]
    assert first == second
    assert len(list((tmp_path / "logs" / "train").iterdir())) == 1
