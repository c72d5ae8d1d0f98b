"""Training on cached features gives what training the whole model gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, models, optim

pytestmark = pytest.mark.numbers

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.random((21, 8, 8, 3), "float32")
Y = RNG.integers(0, 2, 21)


def network(**first):
    """Two residual blocks with BatchNorm, the second read by the head over a skip."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    one = L.Conv2D(4, 3, padding="same", name="conv1")(x)
    one = L.ReLU()(L.BatchNormalization(name="norm1", momentum=0.5)(one))
    two = L.Conv2D(4, 3, padding="same", name="conv2")(one)
    two = L.BatchNormalization(name="norm2", momentum=0.5)(two)
    pooled = L.GlobalAveragePooling2D()(L.Add()([one, two]))
    hidden = L.Dense(6, "relu", name="head_hidden")(L.Dropout(0.3)(pooled))
    return keras.Model(x, L.Dense(2, activation="softmax", name="head")(hidden))


def nested():
    base = models.truncate(network(), "add")
    x = keras.Input((8, 8, 3))
    end = L.Dense(2, activation="softmax", name="head")
    return keras.Model(x, end(L.GlobalAveragePooling2D()(base(x, training=False))))


def trained(model, data, variables, optimizer=None):
    # A bias before a BatchNorm has a gradient of rounding errors alone, which a small epsilon would blow up.
    optimizer = optimizer or keras.optimizers.Adam(1e-2, epsilon=1e-3)
    step = loops.TrainStep(model, "sparse_categorical_crossentropy", optimizer, variables=variables)
    return loops.train(step, data, epochs=4).history["loss"]


def values(model):
    return {name: variable.numpy() for name, variable in optim.named_variables(model).items()}


FILTERS = [["head"], ["conv2", "norm2", "head"], ["norm2", "head"], ["conv2"]]


@pytest.mark.parametrize(
    ("make", "filters"),
    [
        *((network, FILTERS[number]) for number in (1, 3)),
        (nested, FILTERS[2]),
        *(pytest.param(network, FILTERS[number], marks=pytest.mark.release) for number in (0, 2)),
        *(pytest.param(nested, FILTERS[number], marks=pytest.mark.long) for number in (0, 1, 3)),
    ],
)
def test_the_same_numbers_as_the_whole_model(make, filters):
    whole = make()
    start = values(whole)
    losses = trained(whole, loops.Batches(X, Y, 8, seed=3), optim.select(whole, *filters))
    model = make()
    cached = models.cache_frozen(model, filters, loops.Batches(X, Y, 8, seed=3), batch_size=5)
    assert isinstance(cached.data, loops.Batches)
    np.testing.assert_allclose(trained(cached.model, cached.data, cached.variables), losses, rtol=1e-5)
    moved = values(model)
    for name, value in values(whole).items():
        np.testing.assert_allclose(moved[name], value, rtol=1e-5, atol=1e-6)
    changed = {name for name in moved if not np.array_equal(moved[name], start[name])}
    ids = {id(variable) for variable in cached.variables}
    chosen = {name for name, variable in optim.named_variables(model).items() if id(variable) in ids}
    norms = {name for name in moved if "moving" in name and "norm2" in name and "norm2" in filters}
    assert changed == chosen | norms


def test_a_plan_and_its_optimizer():
    def parts():
        model = network()
        groups = {"body": optim.Group("conv1"), "norms": optim.Group("norm1"), "rest": optim.Group("*2*")}
        plan = optim.partition(model, {**groups, "head": optim.Group("head", lr_scale=3.0)}, rest="error")
        optimizer = optim.GroupedOptimizer(keras.optimizers.Adam(1e-3), plan.freeze("body", "norms"))
        optimizer.build(model.trainable_variables)
        return model, optimizer

    whole, optimizer = parts()
    losses = trained(whole, loops.Batches(X, Y, 8), None, optimizer)
    model, optimizer = parts()
    cached = models.cache_frozen(model, optimizer.plan, loops.Batches(X, Y, 8))
    np.testing.assert_allclose(
        trained(cached.model, cached.data, cached.variables, optimizer), losses, rtol=1e-5
    )
    # Unfreezing: another cut, another cache; the optimizer goes on.
    optimizer.unfreeze("norms")
    again = models.cache_frozen(model, optimizer.plan, loops.Batches(X, Y, 8))
    assert len(again.variables) == len(cached.variables) + 2
    assert again.x.shape == (21, 8, 8, 4)
    assert np.isfinite(trained(again.model, again.data, again.variables, optimizer)).all()


def test_kinds_of_data():
    model = network()
    expected = models.cache_frozen(model, "head", loops.Batches(X, Y, 8)).x
    weight = np.ones(21)
    for data in ((X, Y), (X, Y, weight), tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)):
        cached = models.cache_frozen(model, "head", data)
        np.testing.assert_allclose(cached.x, expected, rtol=1e-5)
        np.testing.assert_array_equal(cached.y, Y)
        assert len(cached.data) == (3 if isinstance(data, tuple) and len(data) == 3 else 2)
    alone = models.cache_frozen(model, "head", X)
    assert alone.data is alone.x and alone.y is None


def test_in_a_file_and_again(tmp_path):
    model = network()
    expected = models.cache_frozen(model, "head", (X, Y)).x
    first = models.cache_frozen(model, "head", (X, Y), path=tmp_path)
    assert isinstance(first.x, np.memmap)
    np.testing.assert_array_equal(first.x, expected)
    written = (tmp_path / "features-0.npy").stat().st_mtime_ns
    again = models.cache_frozen(network(), "head", (X, Y), path=tmp_path)
    np.testing.assert_array_equal(again.x, expected)
    assert (tmp_path / "features-0.npy").stat().st_mtime_ns == written
    # The head may have learned: it is not of the frozen part. Other weights in front are another matter.
    trained(first.model, loops.Batches(first.x, Y, 8), first.variables)
    models.cache_frozen(model, "head", (X, Y), path=tmp_path)
    model.get_layer("conv1").bias.assign(np.ones(4))
    with pytest.warns(UserWarning, match="of other weights, data or layers, or not whole: they"):
        other = models.cache_frozen(model, "head", (X, Y), path=tmp_path)
    assert not np.array_equal(other.x, expected)
    np.testing.assert_array_equal(other.x, models.cache_frozen(model, "head", (X, Y)).x)


class Counted(keras.layers.Layer):
    """Counts how often it is traced and how often it runs."""

    def __init__(self):
        super().__init__()
        self.traces, self.runs = 0, tf.Variable(0)

    def call(self, x):
        self.traces += 1
        self.runs.assign_add(1)
        return x


def test_one_trace_and_one_run_of_each_batch(tmp_path):
    counted = Counted()
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(2, 8), counted, L.Dense(2, name="head")])

    def count(**options):
        traces, runs = counted.traces, int(counted.runs.numpy())
        models.cache_frozen(model, "head", (X, Y), **options)
        return counted.traces - traces, int(counted.runs.numpy()) - runs

    looks = 1 + 2  # whether it draws random numbers: for the cut in training mode, for augmentation in both
    # The last batch is smaller.
    assert count(batch_size=8) == (looks + 1, 3)
    # In files, a few examples besides, without a trace: each run is a call. Then they alone.
    assert count(batch_size=8, path=tmp_path) == (looks + 1 + 2, 3 + 2)
    assert count(batch_size=16, path=tmp_path) == (looks + 1, 1)


def test_augmented_copies():
    keras.utils.set_random_seed(0)
    flip = L.RandomFlip("horizontal", name="flip")
    frozen = [L.Conv2D(2, 8), L.BatchNormalization(), L.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 3)), flip, *frozen, L.Dense(2, name="head")])
    with pytest.raises(ValueError, match="augments its data in 'flip'.*Ask for `copies=n`"):
        models.cache_frozen(model, "head", (X, Y))
    cached = models.cache_frozen(model, "head", (X, Y), copies=4)
    np.testing.assert_array_equal(cached.y, np.tile(Y, 4))
    convolved = keras.Sequential(model.layers[1:-1])
    plain, flipped = (convolved(images, training=False).numpy() for images in (X, X[:, :, ::-1]))
    copies = cached.x.reshape(4, 21, -1)
    is_plain = np.isclose(copies, plain, atol=1e-5).all(-1)
    is_flipped = np.isclose(copies, flipped, atol=1e-5).all(-1)
    assert (is_plain | is_flipped).all() and is_plain.any() and is_flipped.any()
    with pytest.raises(ValueError, match="`copies` is 2, and no layer before what trains augments"):
        models.cache_frozen(network(), "head", (X, Y), copies=2)


def test_half_precision():
    for policy, dtype in (("mixed_float16", "float16"), ("mixed_bfloat16", "float32")):
        keras.config.set_dtype_policy(policy)
        assert models.cache_frozen(network(), "head", X).x.dtype == dtype


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (loops.Batches(X, Y, 8, transform=lambda x, y: (x, y)), "`data` has a `transform`"),
        (tf.data.Dataset.from_tensors((X, Y)).repeat(), "`data` has no end"),
        (tf.data.Dataset.from_tensors((X, Y)).take(0), "`data` is empty"),
        ((X, Y[:20]), r"arrays of one length with at least one example; found \[20, 21\]"),
        ((X[:0], Y[:0]), r"found \[0\]"),
    ],
)
def test_bad_data(data, message):
    with pytest.raises(ValueError, match=message):
        models.cache_frozen(network(), "head", data)


def two_inputs(kind):
    """Cut before its end, behind which the second input goes past the frozen layer."""
    keras.utils.set_random_seed(0)
    first, second = keras.Input((3,), name="z"), keras.Input((3,), name="a")
    body = L.Dense(3, name="body")(first)
    structure = {"list": [first, second], "dict": {"z": first, "a": second}, "nested": [first, [second]]}
    return keras.Model(structure[kind], L.Dense(2, name="head")(L.Concatenate()([body, second])))


ONE, OTHER = np.random.default_rng(1).random((2, 6, 3), "float32")


@pytest.mark.parametrize(
    "kind, x",
    [
        ("list", {"a": OTHER, "z": ONE}),
        ("list", {"z": ONE, "more": OTHER, "a": OTHER}),
        ("list", (ONE, OTHER)),
        ("dict", {"a": OTHER, "more": ONE, "z": ONE}),
        ("nested", (ONE, [OTHER])),
        ("nested", (ONE, OTHER)),
        ("nested", {"a": OTHER, "z": ONE}),
    ],
)
def test_several_inputs_in_the_models_order(kind, x):
    model = two_inputs(kind)
    body, head = model.get_layer("body"), model.get_layer("head")
    hidden = np.concatenate([ONE @ body.kernel.numpy(), OTHER], axis=1)
    dataset = tf.data.Dataset.from_tensors((x, np.zeros(6)))
    # In a dataset's element, a list is an array.
    for data in ((x, np.zeros(6)), *([dataset] if isinstance(x, dict) else [])):
        cached = models.cache_frozen(model, "head", data)
        np.testing.assert_allclose(cached.model(cached.x), hidden @ head.kernel.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "kind, x, message",
    [
        (
            "list",
            {"z": ONE},
            r"`x` holds \['z'\], and model 'functional\w*' has the inputs z, a: pass a dict",
        ),
        ("dict", (ONE, OTHER), "`x` holds '2 without names', and model .* has the inputs a, z: pass a dict"),
        ("list", (ONE, OTHER, ONE), "`x` holds '3 without names'"),
        ("list", (ONE, None), "`data` leaves out an optional input, None, .*: pass an array for it, or make"),
    ],
)
def test_inputs_that_are_not_the_models(kind, x, message):
    with pytest.raises(ValueError, match=message):
        models.cache_frozen(two_inputs(kind), "head", (x, np.zeros(6)))


def test_what_is_no_model():
    with pytest.raises(TypeError, match="`model` must be a keras.Model"):
        models.cache_frozen("network", "head", (X, Y))


@pytest.mark.parametrize("batch_size", [0, 2.0, True])
def test_bad_batch_size(batch_size):
    with pytest.raises((ValueError, TypeError), match="`batch_size` must be .*at least 1, got"):
        models.cache_frozen(network(), "head", (X, Y), batch_size=batch_size)
