"""The head from a cache, then more from another one: the numbers of the whole model all along."""

import keras
import numpy as np
import pytest

from gradloop import loops, models, optim
from tests.keras_names import count_layers_anew

pytestmark = pytest.mark.numbers

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.random((21, 8, 8, 3), "float32")
Y = RNG.integers(0, 2, 21)
LOSS = "sparse_categorical_crossentropy"


def network():
    """Convolutions without a name of their own: counted anew, their stable names differ in each part."""
    # From where Keras' count stands after other tests, its names could be stable names of other layers.
    count_layers_anew()
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    features = x
    for filters in (3, 4, 5):
        # A bias before BatchNorm has no gradient but rounding, which Adam blows up.
        features = L.Conv2D(filters, 3, use_bias=False)(features)
        features = L.ReLU()(L.BatchNormalization(momentum=0.5)(features))
    base = keras.Model(x, features)
    return models.classifier(base, 2, hidden=(6,), dropout=0.3)


def grouped(model):
    head = optim.name("head")
    top = optim.name("conv2d_2") | optim.name("batch_normalization_2")
    groups = {
        "body": optim.Group(~head & ~top, lr_scale=0.01),
        "top": optim.Group(top, lr_scale=0.1),
        "head": optim.Group(head, weight_decay=0.1),
    }
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, 12)
    return optim.GroupedOptimizer(keras.optimizers.Adam(schedule), optim.partition(model, groups))


def plain(model):
    optimizer = keras.optimizers.Adam(1e-2)
    optimizer.build(model.trainable_variables)
    return optimizer


HEAD, MORE = ["head"], ["conv2d_2", "batch_normalization_2", "head"]


def values(step, model):
    """Weights, the optimizer's state, and dropout's random numbers."""
    return {**loops.TrainStep(model, LOSS, step.optimizer).state(), **optim.named_variables(model)}


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name, variable in one.items():
        if name != "batches_done":
            np.testing.assert_allclose(
                other[name].numpy(), variable.numpy(), rtol=1e-5, atol=1e-6, err_msg=name
            )


def by_filters(optimizer):
    return HEAD, MORE


def by_plan(optimizer):
    """What a plan lets train: a group of it is unfrozen between the two."""
    optimizer.freeze("body", "top")
    yield optimizer.plan
    optimizer.unfreeze("top")
    yield optimizer.plan


@pytest.mark.parametrize(
    "make, choices",
    [(grouped, by_plan), (plain, by_filters), pytest.param(grouped, by_filters, marks=pytest.mark.release)],
)
def test_unfreezing_with_a_new_cache(make, choices):
    whole = network()
    optimizer = make(whole)
    step = loops.TrainStep(whole, LOSS, optimizer)
    data, losses = loops.Batches(X, Y, 8, seed=3), []
    for chosen in choices(optimizer):
        if isinstance(chosen, list):
            step.train_only(*chosen)
        losses += loops.train(step, data, epochs=2).history["loss"]

    model = network()
    optimizer = make(model)
    data, found, shapes = loops.Batches(X, Y, 8, seed=3), [], []
    for chosen in choices(optimizer):
        cached = models.cache_frozen(model, chosen, data)
        part = loops.TrainStep(cached.model, LOSS, optimizer, variables=cached.variables)
        found += loops.train(part, cached.data, epochs=2).history["loss"]
        data.epoch = cached.data.epoch  # the order of examples goes on
        shapes.append(cached.x.shape)
    assert shapes == [(21, 5), (21, 4, 4, 4)]
    # The parts count layers without a name anew, and variables are told by what they are, not by name.
    assert "conv2d/kernel" in part.state() and "conv2d_2/kernel" in optim.named_variables(model)
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    assert_close(values(step, whole), values(part, model))
    assert int(optimizer.iterations.numpy()) == 12


def test_an_optimizer_of_keras_that_was_built_for_the_head_alone():
    model, optimizer = network(), keras.optimizers.Adam()
    data = loops.Batches(X, Y, 8)
    head = models.cache_frozen(model, HEAD, data)
    loops.train(loops.TrainStep(head.model, LOSS, optimizer), head.data, epochs=1)
    more = models.cache_frozen(model, MORE, data)
    step = loops.TrainStep(more.model, LOSS, optimizer, variables=more.variables)
    with pytest.raises(ValueError, match="optimizer.build\\(model.trainable_variables\\)"):
        loops.train(step, more.data, epochs=1)
