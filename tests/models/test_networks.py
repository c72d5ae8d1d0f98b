"""One network of each family of keras.applications: cut, cached, and moved as planned."""

import keras
import numpy as np
import pytest

from gradloop import loops, models, optim

SIZES = {
    "ConvNeXtTiny": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "InceptionV3": 75,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "NASNetMobile": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "VGG16": 32,
    "Xception": 71,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_cuts_and_caches(name):
    size = SIZES[name]
    x = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype("float32")
    base = models.backbone(name, (size, size, 3))
    model = models.classifier(base, 3)
    outputs = model(x).numpy()
    weighing = [layer for layer in base.layers if layer.weights]
    for place in (0.25, 0.5, 0.75):
        layer = weighing[int(place * len(weighing))]
        cut = models.truncate(base, layer)
        assert cut.output_shape == layer.output.shape and len(cut.layers) < len(base.layers)
    for trained in ("head", optim.last_layers(len(weighing) // 4)):
        cached = models.cache_frozen(model, trained, x)
        np.testing.assert_allclose(cached.model(cached.x), outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("examples, similar", [(1_000, True), (10_000, True), (10_000, False)])
def test_each_strategy_moves_what_it_plans(examples, similar):
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    model = models.classifier(models.backbone("MobileNetV2", (32, 32, 3)), 2)
    plan = optim.partition(model, models.recommend(examples, similar))
    before = {name: v.numpy() for name, v in optim.named_variables(model).items()}
    optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(1e-2), plan)
    step = loops.TrainStep(model, "sparse_categorical_crossentropy", optimizer)
    step(x, np.array([0, 1, 1, 1]))
    moved = {n for n, v in optim.named_variables(model).items() if not np.array_equal(v.numpy(), before[n])}
    trained = {id(v) for v in plan.trained}
    names = {n for n, v in optim.named_variables(model).items() if id(v) in trained}
    # The statistics of BatchNorm move with its own variables.
    statistics = {n for n in before if "moving" in n and f"{n.rpartition('/')[0]}/gamma" in names}
    assert moved <= names | statistics and statistics <= moved
    # A gradient may be zero, where ReLU is; most are not.
    assert len(moved & names) > 0.9 * len(names)
