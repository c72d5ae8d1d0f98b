"""Two replicas train on cached features; logical devices must be made before TensorFlow starts."""

import sys
import tempfile
import warnings

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops, models, optim

warnings.filterwarnings("error", message="The features in .* are computed again")
# BatchNorm and Adam magnify the rounding of sums in another order: in float64 it stays out of sight.
keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
two = loops.strategy("mirrored:cpu:2")
K, L = keras.optimizers, keras.layers
RNG = np.random.default_rng(0)
X = RNG.random((21, 8, 8, 3), "float32")
Y = RNG.integers(0, 2, 21)


def network():
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    features = x
    for block in (1, 2):
        features = L.Conv2D(4, 3, use_bias=False, name=f"conv{block}")(features)
        norm = L.BatchNormalization(momentum=0.5, synchronized=True, name=f"norm{block}")
        features = L.ReLU()(norm(features))
    return models.classifier(keras.Model(x, features), 2, hidden=(6,))


def grouped(model):
    top = optim.name("conv2") | optim.name("norm2")
    body = optim.Group(optim.name("conv1") | optim.name("norm1"), frozen=True)
    plan = optim.partition(model, {"body": body, "top": optim.Group(top, lr_scale=0.1), "head": "head"})
    return optim.GroupedOptimizer(K.Adam(1e-2), plan)


def train(strategy, filters, optimizer, cache, **where):
    with strategy.scope() if strategy else tf.name_scope(""):
        model = network()
        own = optimizer(model)
        data = loops.Batches(X, Y, 8, seed=3)
        chosen, rest = filters, model
        if cache:
            cached = models.cache_frozen(model, filters, data, **where)
            rest, data, chosen = cached.model, cached.data, cached.variables
        step = loops.TrainStep(rest, "sparse_categorical_crossentropy", own, variables=chosen)
    history = loops.train(step, data, epochs=4).history["loss"]
    if strategy:
        assert step.strategy is strategy
    return model, history


def same(one, other):
    np.testing.assert_allclose(one[1], other[1], rtol=1e-5)
    expected = optim.named_variables(one[0])
    for name, variable in optim.named_variables(other[0]).items():
        value = expected[name].numpy()
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-5, atol=1e-6, err_msg=name)


start = {name: variable.numpy() for name, variable in optim.named_variables(network()).items()}
for filters, optimizer in (
    (["head"], lambda model: K.SGD(0.1, momentum=0.9)),
    (["conv2", "norm2", "head"], grouped),
):
    whole = train(None, filters, optimizer, cache=False)
    moved = {n for n, v in optim.named_variables(whole[0]).items() if not np.array_equal(v.numpy(), start[n])}
    assert "head/kernel" in moved and "conv1/kernel" not in moved
    assert ("norm2/moving_mean" in moved) == ("norm2" in filters)
    cached = train(two, filters, optimizer, cache=True)
    same(whole, cached)
    folder = tempfile.mkdtemp(dir=sys.argv[1])
    same(whole, train(two, filters, optimizer, cache=True, path=folder))
    # The features in a file are those of one device too: no warning says that they are made again.
    same(whole, train(None, filters, optimizer, cache=True, path=folder))

# Weights by name, out of replicas and into both of them.
for source, target, bias in ((cached[0], whole[0], [5.0, 6.0]), (whole[0], cached[0], [7.0, 8.0])):
    source.get_layer("head").bias.assign(bias)
    models.save_weights(source, sys.argv[1] + "/head.npz", "head")
    models.load_weights(target, sys.argv[1] + "/head.npz")
    np.testing.assert_array_equal(target.get_layer("head").bias.numpy(), bias)
copies = two.experimental_local_results(cached[0].get_layer("head").bias.value)
assert [copy.numpy().tolist() for copy in copies] == [[7.0, 8.0], [7.0, 8.0]]
print("done")
