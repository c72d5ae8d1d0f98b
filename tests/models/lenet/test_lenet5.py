"""LeNet-5: three spellings of one network, its options, its files and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import optim
from gradloop.models import LeNet5, lenet5_functional, lenet5_sequential

pytestmark = pytest.mark.numbers

Maker = Callable[..., Any]
MAKERS = [LeNet5, lenet5_sequential, lenet5_functional]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_classes": 3, "dropout": 0.4},
    {"batch_norm": True, "l1": 1e-4, "l2": 1e-3},
]

every_maker = pytest.mark.parametrize("make", MAKERS)
every_option = pytest.mark.parametrize("options", OPTIONS, ids=["plain", "dropout", "norm"])


def images(count: int = 5) -> Any:
    return np.random.default_rng(1).random((count, 28, 28, 1), "float32")


def reference(weights: list[Any], x: Any) -> Any:
    """LeNet-5 in plain TensorFlow operations, with no Keras layer."""
    w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = weights
    x = tf.nn.relu(tf.nn.conv2d(x, w1, 1, "SAME") + b1)
    x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    x = tf.nn.relu(tf.nn.conv2d(x, w2, 1, "VALID") + b2)
    x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    x = tf.reshape(x, (-1, 400))
    x = tf.nn.relu(x @ w3 + b3)
    x = tf.nn.relu(x @ w4 + b4)
    return tf.nn.softmax(x @ w5 + b5)


@every_maker
def test_has_61706_parameters_and_is_built(make: Maker) -> None:
    model = make()
    assert model.built
    assert model.count_params() == 61_706
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 61_706


@every_maker
def test_agrees_with_plain_tensorflow(make: Maker) -> None:
    model = make()
    x = images()
    np.testing.assert_allclose(model(x), reference(model.get_weights(), x), atol=1e-6)


@every_option
@pytest.mark.parametrize("make", MAKERS[1:])
def test_other_spellings_are_the_same_function(make: Maker, options: dict[str, Any]) -> None:
    ours, other = LeNet5(**options), make(**options)
    other.set_weights(ours.get_weights())
    x = images()
    np.testing.assert_array_equal(ours(x), other(x))
    np.testing.assert_allclose(ours.losses, other.losses, rtol=1e-6)


@every_option
@pytest.mark.parametrize("make", MAKERS[1:])
def test_other_spellings_have_the_same_stable_names(make: Maker, options: dict[str, Any]) -> None:
    ours = optim.named_variables(LeNet5(**options))
    other = optim.named_variables(make(**options))
    assert list(ours) == list(other)
    assert [v.shape for v in ours.values()] == [v.shape for v in other.values()]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("make", MAKERS[1:])
def test_other_spellings_have_the_same_gradients(make: Maker, batch_norm: bool) -> None:
    x = images(8)
    y = np.arange(8) % 10
    gradients = []
    ours = LeNet5(batch_norm=batch_norm, l2=1e-2)
    other = make(batch_norm=batch_norm, l2=1e-2)
    other.set_weights(ours.get_weights())
    for model in (ours, other):
        with tf.GradientTape() as tape:
            chosen = tf.gather(model(x, training=True), y, batch_dims=1)
            loss = -tf.reduce_mean(tf.math.log(chosen)) + tf.add_n(model.losses)
        gradients.append(tape.gradient(loss, [v.value for v in model.trainable_variables]))
    for mine, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-7)


def test_names_read_as_the_attributes_do() -> None:
    model = LeNet5()
    names = ["conv1", "conv2", "fc1", "fc2", "fc3"]
    wanted = [f"{name}/{kind}" for name in names for kind in ("kernel", "bias")]
    assert list(optim.named_variables(model)) == wanted
    assert [model.conv1, model.pool2, model.fc3] == [model.layers[i] for i in (0, 3, 7)]
    assert len(optim.select(model, "conv")) == 4


def test_same_seed_gives_same_weights() -> None:
    weights = []
    for make in MAKERS:
        keras.utils.set_random_seed(5)
        weights.append(make().get_weights())
    for other in weights[1:]:
        for mine, theirs in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


@every_option
@every_maker
def test_saved_file_gives_the_same_bits(make: Maker, options: dict[str, Any], tmp_path: Path) -> None:
    model = make(**options)
    model.save(tmp_path / "lenet5.keras")
    loaded = keras.models.load_model(tmp_path / "lenet5.keras")
    x = images()
    assert type(loaded) is type(model)
    assert list(optim.named_variables(loaded)) == list(optim.named_variables(model))
    np.testing.assert_array_equal(model(x), loaded(x))
    np.testing.assert_allclose(model.losses, loaded.losses)


def test_config_makes_the_same_network() -> None:
    options: dict[str, Any] = {"num_classes": 7, "dropout": 0.25, "batch_norm": True, "l1": 0.5, "l2": 0.25}
    config = LeNet5(**options, name="net").get_config()
    again = LeNet5.from_config(config)
    assert options.items() <= config.items()
    assert again.get_config() == config
    assert again.name == "net"


def test_numpy_options_end_as_plain_numbers_in_the_config() -> None:
    config = LeNet5(np.int64(4), dropout=np.float64(0.5)).get_config()
    assert type(config["num_classes"]) is int and type(config["dropout"]) is float


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@every_maker
def test_probabilities_stay_float32_under_mixed_precision(make: Maker, policy: str, tmp_path: Path) -> None:
    keras.config.set_dtype_policy(policy)
    model = make(batch_norm=True)
    outputs = model(images())
    assert outputs.dtype == tf.float32
    assert model.get_layer("conv1").compute_dtype == policy.removeprefix("mixed_")
    assert model.get_layer("conv1").variable_dtype == "float32"
    np.testing.assert_allclose(np.sum(outputs, axis=1), 1.0, atol=1e-6)

    # The file says which precision it was trained in, whatever the reader's default is.
    model.save(tmp_path / "mixed.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.models.load_model(tmp_path / "mixed.keras")
    np.testing.assert_array_equal(outputs, loaded(images()))


@pytest.mark.numbers("float32")
def test_dtype_of_one_model_alone() -> None:
    model = LeNet5(dtype="float64")
    assert model(images()).dtype == tf.float64
    assert keras.config.dtype_policy().name == "float32"


@every_maker
def test_dropout_acts_in_training_alone(make: Maker) -> None:
    model = make(dropout=0.5)
    x = images()
    assert [layer.name for layer in model.layers if "drop" in layer.name] == ["drop1", "drop2"]
    np.testing.assert_array_equal(model(x, training=False), model(x, training=False))
    assert not np.array_equal(model(x, training=True), model(x, training=True))


@every_maker
def test_batch_norm_keeps_biases_and_comes_before_the_activation(make: Maker) -> None:
    model = make(batch_norm=True)
    order = [layer.name for layer in model.layers if layer.weights or "input" not in layer.name]
    assert order[:4] == ["conv1", "bn1", "relu1", "pool1"]
    assert [name for name in order if name.startswith("bn")] == ["bn1", "bn2", "bn3", "bn4"]
    trained = 61_706 + 2 * (6 + 16 + 120 + 84)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == trained
    assert model.get_layer("conv1").activation is keras.activations.linear


@every_maker
def test_penalties_are_sums_over_the_kernels(make: Maker) -> None:
    model = make(l1=0.5, l2=0.25)
    kernels = [w for w in model.get_weights() if w.ndim > 1]
    wanted = sum(0.5 * np.abs(k).sum() + 0.25 * np.square(k).sum() for k in kernels)
    assert len(model.losses) == 5
    np.testing.assert_allclose(sum(float(loss) for loss in model.losses), wanted, rtol=1e-5)
    assert make().losses == []


@pytest.mark.parametrize("value", [1, 0, -3, 2.5, "10", None, True])
@every_maker
def test_refuses_a_bad_number_of_classes(make: Maker, value: Any) -> None:
    error = ValueError if type(value) is int else TypeError
    with pytest.raises(error, match="`num_classes` must be .*at least 2, got"):
        make(value)


@pytest.mark.parametrize("value", [-0.1, 1.0, 2, float("nan")])
@every_maker
def test_refuses_a_bad_dropout(make: Maker, value: float) -> None:
    with pytest.raises(ValueError, match="`dropout` must be a finite number at least 0 and below 1, got"):
        make(dropout=value)


@pytest.mark.parametrize("name", ["l1", "l2"])
@pytest.mark.parametrize("value", [-1e-3, float("nan"), float("inf")])
@every_maker
def test_refuses_a_bad_penalty(make: Maker, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number at least 0, got"):
        make(**{name: value})


@pytest.mark.parametrize("make", MAKERS[1:])
@pytest.mark.parametrize("shape", [(4, 784), (4, 28, 28, 3), (4, 32, 32, 1)])
def test_keras_refuses_other_shapes_for_the_other_spellings(make: Maker, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"incompatible"):
        make()(np.zeros(shape, "float32"))
