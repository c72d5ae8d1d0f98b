"""Networks of keras.applications cut, cached and moved as planned: one of each kind; all on request."""

import gc

import keras
import numpy as np
import pytest

from gradloop import loops, models, optim

pytestmark = pytest.mark.numbers

# The smallest images that they take.
SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
# A plain chain of layers, and branches that are added and multiplied: the others have no other kind of place
# to cut at, and come on request.
FAMILIES = {"MobileNetV3Small", "VGG16"}


# Random weights for which activations grow from layer to layer, until rounding decides which gates open:
# Keras' own eager and traced outputs differ by as much as they are. With smaller ones they agree.
SCALES = {"EfficientNetV2L": 0.9}


def _networks(some):
    """All networks: `some` for a release, the others on request."""
    marks = {**dict.fromkeys(models.networks(), pytest.mark.long), **dict.fromkeys(some, pytest.mark.release)}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


def _made(name, classes):
    size = SIZES.get(name, 32)
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).integers(0, 256, (4, size, size, 3)).astype("float32")
    backbone = models.backbone(name, (size, size, 3))
    for variable in backbone.trainable_variables if name in SCALES else ():
        if variable.name == "kernel":
            variable.assign(variable * SCALES[name])
    return models.classifier(backbone, classes), x


def _outputs(model, x):
    """Outputs that tell features apart: of those near 0 that random weights give, any head says the same."""
    head = model.get_layer("head")
    features = keras.Model(model.input, head.input)(x).numpy()
    head.kernel.assign(head.kernel / features.std())
    return model(x).numpy()


@pytest.mark.parametrize("name", _networks(FAMILIES))
def test_cuts_and_caches(name):
    model, x = _made(name, 3)
    size = x.shape[1]
    base = models.backbone(name, (size, size, 3))
    outputs = _outputs(model, x)
    assert np.ptp(outputs) > 0.1
    weighing = [layer for layer in base.layers if layer.weights]
    for place in (0.25, 0.5, 0.75):
        layer = weighing[int(place * len(weighing))]
        cut = models.truncate(base, layer)
        assert cut.output_shape == layer.output.shape and len(cut.layers) < len(base.layers)
    for trained in ("head", optim.last_layers(len(weighing) // 4)):
        cached = models.cache_frozen(model, trained, x)
        np.testing.assert_allclose(cached.model(cached.x), outputs, rtol=1e-5, atol=1e-6)


STRATEGIES = {"head": (1_000, True), "top": (10_000, True), "all": (10_000, False)}


@pytest.mark.parametrize("name", _networks({"MobileNet"}))  # the one that traces fastest
def test_each_strategy_moves_what_it_plans(name):
    model, x = _made(name, 2)
    for strategy, (examples, similar) in STRATEGIES.items():
        plan = optim.partition(model, models.recommend(examples, similar))
        variables = optim.named_variables(model)
        before = {name: v.numpy() for name, v in variables.items()}
        optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(1e-2, weight_decay=0.1), plan)
        loops.TrainStep(model, "sparse_categorical_crossentropy", optimizer)(x, np.array([0, 1, 1, 1]))
        moved = {name for name, v in variables.items() if not np.array_equal(v.numpy(), before[name])}
        trained = {id(v) for v in plan.trained}
        names = {name for name, v in variables.items() if id(v) in trained}
        del optimizer  # the largest networks leave no room for those of two strategies
        gc.collect()
        # The statistics of BatchNorm move with its own variables: those without any train with their layer.
        statistics = {n for n in before if "moving" in n and _same_layer(n) & names}
        assert moved <= names | statistics and statistics <= moved, strategy
        # What is zero, as biases are at first, stays zero where its gradient is, as under a dead ReLU.
        assert len(moved & names) > 0.9 * len(names), strategy


def _same_layer(statistic):
    layer = statistic.rpartition("/")[0]
    return {f"{layer}/gamma", f"{layer}/beta"}
