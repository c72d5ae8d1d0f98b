"""How a TrainStep is compiled: in one trace, with XLA where the layers allow it, in half precision."""

import keras
import pytest
import tensorflow as tf

from gradloop import loops

pytestmark = pytest.mark.numbers


def test_one_trace_for_short_batches_and_changing_rates(logits):
    step = loops.TrainStep(logits.dense_model(), logits.crossentropy(), keras.optimizers.SGD(0.1))
    for size in (16, 7, 1, 16):
        step.optimizer.learning_rate = 0.1 / size
        step(logits.x[:size], logits.y[:size])
    assert step.traces == 1
    data = loops.Batches(logits.x, logits.y, 24)
    for _ in range(3):
        step.run(iter(data), 2)
        step.run(iter(data), 3)
    assert step.traces == 2


def test_xla_gives_the_same_numbers(logits, assert_same_weights):
    ours, theirs = logits.norm_model(), logits.norm_model()
    compiled = loops.TrainStep(ours, logits.crossentropy(), keras.optimizers.SGD(0.1), jit_compile=True)
    plain = loops.TrainStep(theirs, logits.crossentropy(), keras.optimizers.SGD(0.1), jit_compile=False)
    for _, (x, y, _) in zip(range(20), logits.batches(), strict=False):
        compiled(x, y)
        plain(x, y)
    assert_same_weights(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_layer_that_xla_cannot_compile_is_found_at_any_depth(depth):
    class Host(keras.layers.Layer):
        def __init__(self, inner=None):
            super().__init__()
            self.inner = [keras.layers.Dense(3)] if inner is None else [inner]
            self.supports_jit = inner is not None

        def call(self, x):
            return self.inner[0](x)

    host = Host()
    for _ in range(depth):
        host = Host(host)
    for _ in range(2):
        host = keras.Sequential([keras.Input((6,)), host])
        with pytest.raises(ValueError, match="`jit_compile` is True, and XLA cannot compile the layer Host"):
            loops.TrainStep(host, "mse", "sgd", jit_compile=True)
        loops.TrainStep(host, "mse", "sgd")  # "auto" leaves it to TensorFlow


def test_xla_does_not_compile_a_reduction_over_replicas():
    strategy = tf.distribute.MirroredStrategy(["cpu:0"])
    with strategy.scope():
        layers = [keras.Input((6,)), keras.layers.BatchNormalization(synchronized=True, name="norm")]
        model = keras.Sequential(layers)
        with pytest.raises(ValueError, match="BatchNormalization 'norm', which reduces over replicas"):
            loops.TrainStep(model, "mse", "sgd", jit_compile=True)


def test_bfloat16_and_float16_train(logits):
    for policy in ("mixed_bfloat16", "mixed_float16"):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((6,), dtype="float32"),
                keras.layers.Dense(8, "relu", dtype=policy),
                keras.layers.Dense(3, dtype="float32"),
            ]
        )
        model.dtype_policy = keras.DTypePolicy(policy)
        step = loops.TrainStep(model, logits.crossentropy(), keras.optimizers.Adam(1e-2))
        scaled = isinstance(step.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == (policy == "mixed_float16")
        first = float(step(logits.x, logits.y)["loss"])
        for _ in range(30):
            last = float(step(logits.x, logits.y)["loss"])
        assert last < 0.8 * first
        assert all(v.dtype == "float32" for v in model.trainable_variables)
