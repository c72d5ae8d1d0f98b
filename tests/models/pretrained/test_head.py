"""Classifiers: what the head is made of, and that it is on the backbone's own layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, models, optim

pytestmark = pytest.mark.numbers

L = keras.layers


def features(size=4):
    return keras.Sequential([keras.Input((size, size, 3)), L.Conv2D(5, 1, name="conv")], name="net")


def names(model):
    return [layer.name for layer in model.layers if layer.name.startswith("head")]


def test_pooling_hidden_and_dropout():
    backbone = features()
    x = np.random.default_rng(0).random((2, 4, 4, 3), "float32")
    model = models.classifier(backbone, 3)
    assert names(model) == ["head_pool", "head"]
    head = model.get_layer("head")
    logits = backbone(x).numpy().mean((1, 2)) @ head.kernel.numpy() + head.bias.numpy()
    np.testing.assert_allclose(model(x), keras.ops.softmax(logits), rtol=1e-5)
    assert model.get_layer("conv") is backbone.get_layer("conv")

    model = models.classifier(backbone, 3, pooling="flatten", hidden=(256, 7), dropout=0.5)
    wanted = ["head_flatten", "head_hidden1", "head_dropout1", "head_hidden2", "head_dropout2", "head"]
    assert names(model) == wanted
    assert model.get_layer("head_hidden1").kernel.shape == (80, 256)
    assert len(optim.select(model, "head")) == 6
    assert names(models.classifier(backbone, 3, dropout=0.2)) == ["head_pool", "head_dropout", "head"]


def test_on_a_vector_and_on_a_truncated_network():
    vector = models.truncate(models.lenet5_functional(), "fc1")
    assert names(models.classifier(vector, 5)) == ["head"]
    short = models.classifier(models.truncate(models.backbone("VGG16", (32, 32, 3)), "block3_pool"), 2)
    assert short.get_layer("head").kernel.shape == (256, 2)


def test_probabilities_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = models.classifier(features(), 3)
    assert model.output.dtype == "float32"
    assert model.get_layer("conv").compute_dtype == "float16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "`num_classes` must be at least 2, got 1"),
        ({"pooling": "max"}, "`pooling` must be 'avg' or 'flatten', not 'max'"),
        ({"hidden": (0,)}, r"`hidden\[0\]` must be at least 1, got 0"),
        ({"hidden": (1.5,)}, r"`hidden\[0\]` must be a whole number of at least 1, got 1.5"),
        ({"dropout": 1.0}, "`dropout` must be a finite number at least 0 and below 1, got 1"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        models.classifier(features(), **{"num_classes": 2, **options})


def test_bad_backbones():
    with pytest.raises(ValueError, match="gives .None, None, None, 5.: make it with a height and width"):
        models.classifier(features(None), 2, pooling="flatten")
    x = keras.Input((4, 3))
    with pytest.raises(ValueError, match="of rank 4 or 2; it ends in"):
        models.classifier(keras.Model(x, L.Dense(2)(x)), 2)
    with pytest.raises(ValueError, match="of rank 4 or 2; it ends in"):
        models.classifier(keras.Model(x, [L.Flatten()(x), x]), 2)
    with pytest.raises(ValueError, match="whose code alone knows"):
        models.classifier(models.LeNet5(), 2)


@pytest.mark.parametrize("policy", ["bfloat16", "float16", "mixed_bfloat16"])
def test_clipping_with_a_backbone_of_half_precision(policy):
    """The head's gradients are float32, the backbone's are not; one norm is of both."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((4,))
    model = models.classifier(keras.Model(inputs, keras.layers.Dense(3, name="body")(inputs)), 2)
    x, y = np.random.default_rng(0).random((8, 4), "float32"), np.arange(8) % 2
    loss = keras.losses.SparseCategoricalCrossentropy()
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True))
    gradients = [tf.cast(g, tf.float32) for g in tape.gradient(value, [v.value for v in model.weights])]
    before = model.get_layer("head").kernel.numpy()
    loops.TrainStep(model, loss, keras.optimizers.SGD(1.0), clip_norm=1e-3, jit_compile=False)(x, y)
    moved = before - model.get_layer("head").kernel.numpy()
    np.testing.assert_allclose(
        moved, gradients[2] * 1e-3 / tf.linalg.global_norm(gradients), rtol=0.03, atol=1e-6
    )
