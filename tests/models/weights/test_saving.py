"""A fine-tuned model in every kind of file: the same predictions, and training goes on as if never saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, models, optim
from tests.tolerance import rounding

pytestmark = pytest.mark.numbers

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.random((24, 8, 8, 3), "float32")
Y = RNG.integers(0, 2, 24)
GROUPS = {
    "body": optim.Group("conv", frozen=True),
    "norm": optim.Group("norm", lr_scale=0.1),
    "head": optim.Group("head", learning_rate=0.02, weight_decay=0.01),
}


def network(seed=0):
    keras.utils.set_random_seed(seed)
    layers = [L.Conv2D(4, 3, name="conv"), L.BatchNormalization(name="norm", momentum=0.5), L.ReLU()]
    base = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    return models.classifier(base, 2, hidden=(6,), dropout=0.3)


def compiled(model, groups=GROUPS):
    optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(1e-2), optim.partition(model, groups))
    # By objects: what is compiled by name, such as "mse", Keras does not find again in an `.h5` file.
    loss, metric = keras.losses.SparseCategoricalCrossentropy(), keras.metrics.SparseCategoricalAccuracy()
    model.compile(optimizer, loss, metrics=[metric])
    return model


def train(model, epoch=0, epochs=2, x=X):
    step = loops.TrainStep(model, model.loss, model.optimizer)
    data = loops.Batches(x, Y, 8)
    data.epoch = epoch
    loops.train(step, data, epochs=epochs)


def state(optimizer):
    return {name: variable.numpy() for name, variable in optimizer.named_state().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)


def weights(model):
    return {name: variable.numpy() for name, variable in optim.named_variables(model).items()}


def same_masks(model, loaded):
    """Gives dropout its place in the random numbers, which no file of Keras holds (`step.state()` does)."""
    for one, other in zip(model.layers, loaded.layers):
        if isinstance(one, L.Dropout):
            other.seed_generator.state.assign(one.seed_generator.state)


def assert_goes_on(model, loaded):
    """Frozen from the start until now, `body` begins: by its own count of updates, which is none."""
    same_masks(model, loaded)
    for one in (model, loaded):
        one.optimizer.unfreeze("body")
        train(one, epoch=2)
    assert_same(weights(model), weights(loaded))
    assert_same(state(model.optimizer), state(loaded.optimizer))


def assert_compiled_as(model, loaded):
    assert type(loaded.optimizer) is optim.GroupedOptimizer
    assert loaded.loss.get_config() == model.loss.get_config()
    results = [one.evaluate(X, Y, verbose=0, return_dict=True) for one in (model, loaded)]
    assert results[0] == results[1] and "sparse_categorical_accuracy" in results[0]
    assert str(loaded.optimizer.plan) == str(model.optimizer.plan)
    assert loaded.optimizer.learning_rates == model.optimizer.learning_rates


@pytest.fixture
def trained():
    model = compiled(network())
    model.optimizer.rescale("norm", 0.25)
    train(model)
    model.optimizer.learning_rate = 0.005
    return model


def test_keras_file(trained, tmp_path):
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X), trained(X))
    assert_compiled_as(trained, loaded)
    assert loaded.optimizer.learning_rates == pytest.approx({"body": 0.005, "norm": 0.00125, "head": 0.02})
    assert_same(state(trained.optimizer), state(loaded.optimizer))
    assert_goes_on(trained, loaded)


def test_h5_file(trained, tmp_path, caplog):
    trained.save(tmp_path / "model.h5")
    assert "saving your model as an HDF5 file" in caplog.text
    loaded = keras.models.load_model(tmp_path / "model.h5")
    np.testing.assert_array_equal(loaded(X), trained(X))
    # Plan and state are there from the first step on, or from here.
    assert int(loaded.optimizer.iterations.numpy()) == 6
    loaded.optimizer.build(loaded.trainable_variables)
    assert_compiled_as(trained, loaded)
    assert_same(state(trained.optimizer), state(loaded.optimizer))
    assert_goes_on(trained, loaded)


def test_h5_file_goes_on_without_a_word(trained, tmp_path):
    trained.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(tmp_path / "model.h5")
    same_masks(trained, loaded)
    for model in (trained, loaded):
        train(model, epoch=2)
    assert_same(state(trained.optimizer), state(loaded.optimizer))
    assert_goes_on(trained, loaded)


def test_weights_file(trained, tmp_path):
    trained.save_weights(tmp_path / "model.weights.h5")
    anew = compiled(network(seed=1))
    anew.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(anew(X), trained(X))
    # The plan is what the new model was given; its settings are no weights, the base rate is.
    assert anew.optimizer.learning_rates == pytest.approx({"body": 0.005, "norm": 0.0005, "head": 0.02})
    anew.optimizer.rescale("norm", 0.25)
    assert_same(state(trained.optimizer), state(anew.optimizer))
    assert_goes_on(trained, anew)


def mobilenet(seed=0):
    keras.utils.set_random_seed(seed)
    return models.classifier(models.backbone("MobileNetV2", (32, 32, 3)), 2, dropout=0.2)


@pytest.mark.long  # of the formats and the optimizer, a small network says the same
def test_mobilenet_classifier(tmp_path):
    x = 255 * np.kron(X, np.ones((4, 4, 1), "float32"))
    groups = {"body": optim.Group(~optim.name("head"), frozen=True), "head": "head"}
    model = compiled(mobilenet(), groups)
    train(model, x=x)
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = [keras.models.load_model(tmp_path / name) for name in ("model.keras", "model.h5")]
    loaded.append(compiled(mobilenet(seed=1), groups))
    loaded[-1].load_weights(tmp_path / "model.weights.h5")
    expected = model(x).numpy()
    for one in loaded:
        np.testing.assert_array_equal(one(x), expected)
        one.optimizer.build(one.trainable_variables)
        assert str(one.optimizer.plan) == str(model.optimizer.plan)
        assert_same(state(model.optimizer), state(one.optimizer))
        same_masks(model, one)
    train(model, epoch=2, epochs=1, x=x)
    train(loaded[0], epoch=2, epochs=1, x=x)
    assert_same(weights(model), weights(loaded[0]))


@pytest.mark.parametrize("make", [network, pytest.param(mobilenet, marks=pytest.mark.long)])
def test_exported_for_serving(make, tmp_path):
    model, x = make(), 255 * np.kron(X, np.ones((4, 4, 1), "float32"))
    if make is network:
        x = X
        train(compiled(model))
    expected = model(x)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    close = rounding("float64")  # of probabilities; a graph may join kernels
    np.testing.assert_allclose(served.serve(x), expected, rtol=0, atol=close)
    np.testing.assert_allclose(served.serve(x[:1]), model(x[:1]), rtol=0, atol=close)
    reloaded = L.TFSMLayer(tmp_path / "served", call_endpoint="serve")
    np.testing.assert_allclose(reloaded(x), expected, rtol=0, atol=close)


@pytest.mark.parametrize("name, only_weights", [("best.keras", False), ("best.weights.h5", True)])
def test_the_best_checkpoint_evaluated(name, only_weights, tmp_path):
    model = network()
    optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(0.3), optim.partition(model, GROUPS))
    step = loops.TrainStep(model, "sparse_categorical_crossentropy", optimizer)
    validation = loops.Batches(X[:10], 1 - Y[:10], 4)  # what is learned is wrong here, so the end is not best
    saver = keras.callbacks.ModelCheckpoint(
        tmp_path / name, monitor="val_loss", save_best_only=True, save_weights_only=only_weights
    )
    losses = loops.train(
        step, loops.Batches(X, Y, 8), epochs=5, validation=validation, callbacks=[saver]
    ).history["val_loss"]
    assert np.argmin(losses) < 4
    if only_weights:
        best = network(seed=1)
        best.load_weights(tmp_path / name)
    else:
        best = keras.models.load_model(tmp_path / name)
    evaluated = loops.evaluate(loops.EvalStep(best, "sparse_categorical_crossentropy"), validation)
    assert evaluated["loss"] == pytest.approx(min(losses), rel=1e-6)


def test_what_a_checkpoint_keeps_of_the_optimizer(tmp_path):
    """A `.keras` file holds it, as after `fit`; files of weights hold its state."""
    model = network()
    optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(0.01), optim.partition(model, GROUPS))
    step = loops.TrainStep(model, "sparse_categorical_crossentropy", optimizer)
    files = {"end.keras": False, "end.weights.h5": True}
    savers = [keras.callbacks.ModelCheckpoint(tmp_path / f, save_weights_only=w) for f, w in files.items()]
    loops.train(step, loops.Batches(X, Y, 8), epochs=2, callbacks=savers)
    assert model.optimizer is optimizer
    loaded = keras.models.load_model(tmp_path / "end.keras")
    assert_same(state(loaded.optimizer), state(optimizer))
    assert_same(weights(loaded), weights(model))
    for file in files:
        anew = compiled(network(seed=1))
        anew.load_weights(tmp_path / file)
        assert_same(weights(anew), weights(model))
        assert_same(state(anew.optimizer), state(optimizer))
