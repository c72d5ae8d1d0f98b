"""The small trainings and other checks that check_devices.py runs on one kind of device."""

from __future__ import annotations

import functools
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops, optim

Row: TypeAlias = dict[str, Any]  # a line of the table
Strategy: TypeAlias = tf.distribute.Strategy
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.floating[Any]]]

CLASSES, BATCH, STEPS = 4, 32, 20
# High enough that weights move far beyond their own rounding; so low that the loss falls steadily, since a
# training that swings magnifies rounding.
RATES = {"conv": 0.1, "lstm": 0.3, "tokens": 0.3, "batchnorm": 0.04}


class Setting(NamedTuple):
    """How a network is trained."""

    like: str = "float32"  # the setting whose error on the CPU tells how large this one's may be
    truth: str = "float64"  # the setting in float64 that trains the same
    policy: str = "float32"
    roundoff: float = 2.0**-24  # of its least precise numbers: half the distance from 1 to the next
    tf32: bool = False  # whether a GPU may multiply float32 numbers as TensorFloat-32
    options: Mapping[str, Any] = {"jit_compile": False}  # of `TrainStep`


PLAIN = Setting()
CLIPPED, ACCUMULATED = ({**PLAIN.options, **more} for more in ({"clip_norm": 0.5}, {"accumulate": 4}))
AUTO, HALF = {"jit_compile": "auto"}, ("mixed_float16", "mixed_bfloat16")
SETTINGS = {
    "float64": Setting(policy="float64"),
    "float64 clipped": Setting(policy="float64", options=CLIPPED),
    "float64 accumulated": Setting(policy="float64", options=ACCUMULATED),
    "float32": PLAIN,
    "clipped": Setting("clipped", "float64 clipped", options=CLIPPED),
    "accumulated": Setting("accumulated", "float64 accumulated", options=ACCUMULATED),
    "xla": Setting(options={"jit_compile": True}),
    "tf32": Setting("mixed_float16", roundoff=2.0**-11, tf32=True),
    "mixed_float16": Setting("mixed_float16", "float64", "mixed_float16", 2.0**-11, True, AUTO),
    "mixed_bfloat16": Setting("mixed_bfloat16", "float64", "mixed_bfloat16", 2.0**-8, True, AUTO),
}
NETWORKS = {
    "conv": ("float32", "clipped", "accumulated", "xla", "tf32", *HALF),
    "lstm": ("float32", "tf32", *HALF),  # XLA cannot compile cuDNN's kernel
    "tokens": ("float32", "xla"),
    "batchnorm": ("float32", "xla"),
}


def set_devices(kind: str) -> Strategy:
    """Sets up the devices of a kind, which TensorFlow allows once in a process; returns their strategy."""
    gpus = tf.config.list_physical_devices("GPU")
    if kind == "gpu" and not gpus:
        raise RuntimeError("TensorFlow sees no GPU here")
    if "cpu" in kind:
        tf.config.set_visible_devices([], "GPU")
    elif gpus and kind != "gpu" and len(gpus) < (count := int(kind.removeprefix("mirrored:"))):
        parts = [tf.config.LogicalDeviceConfiguration(memory_limit=3072)] * count
        tf.config.set_logical_device_configuration(gpus[0], parts)
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    return loops.strategy("one" if kind in ("cpu", "gpu") else kind)


def build(network: str, setting: Setting = PLAIN) -> keras.Model:
    """A network for the strategy in scope, with weights that depend on nothing but their shapes."""
    keras.config.set_floatx("float64" if setting.policy == "float64" else "float32")
    keras.config.set_dtype_policy(setting.policy)
    tf.config.experimental.enable_tensor_float_32_execution(setting.tf32)
    L = keras.layers
    if network == "conv":
        # Much as LeCun's. ReLU and max-pooling have kinks, where rounding decides which way a gradient goes:
        # with them a GPU and the CPU agreed to 5e-7 for 13 steps, then one kink set them 1e-4 apart, though
        # neither was wrong. So no network here has kinks. And no biases: in bfloat16 the CPU adds up their
        # gradients, over all pixels, in bfloat16 itself, which made its error 20 times as large.
        layers = [L.Conv2D(6, 5, activation="tanh", use_bias=False), L.AveragePooling2D(2)]
        layers += [L.Conv2D(16, 5, activation="tanh", use_bias=False), L.AveragePooling2D(2)]
        layers += [L.Flatten(), L.Dense(32, activation="tanh"), L.Dense(CLASSES)]
        model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    elif network == "lstm":
        model = keras.Sequential([keras.Input((12, 8)), L.LSTM(16), L.Dense(CLASSES)])
    elif network == "batchnorm":
        several = tf.distribute.get_strategy().num_replicas_in_sync > 1
        layers = [L.Conv2D(8, 3), L.BatchNormalization(synchronized=several), L.Activation("tanh")]
        model = keras.Sequential([keras.Input((8, 8, 3)), *layers, L.Flatten(), L.Dense(CLASSES)])
    else:
        words, flags = keras.Input((6,), dtype="int32"), keras.Input((6,), dtype="bool")
        marked = L.Embedding(50, 8)(words) * keras.ops.cast(flags[..., None], keras.config.floatx())
        model = keras.Model((words, flags), L.Dense(CLASSES)(L.Flatten()(marked)))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if len(variable.shape) > 1:  # else a bias or of BatchNorm, which begin the same everywhere
            scale = np.float32(np.sqrt(1.5 / np.prod(variable.shape[:-1])))
            variable.assign(scale * rng.standard_normal(variable.shape, "float32"))  # the same in float64
    return model


def examples(network: str, batches: int) -> tuple[Any, Floats]:
    """Inputs, which are a pair of arrays for "tokens", and labels."""
    rng, count = np.random.default_rng(1), batches * BATCH
    y = rng.integers(0, CLASSES, count).astype("int32")
    if network == "tokens":
        return (rng.integers(0, 50, (count, 6)).astype("int32"), rng.random((count, 6)) < 0.7), y
    shape = {"conv": (28, 28, 1), "lstm": (12, 8), "batchnorm": (8, 8, 3)}[network]
    means = y.reshape(-1, *[1] * len(shape)) / np.float32(CLASSES)
    return rng.standard_normal((count, *shape), "float32") + means.astype("float32"), y


def make_step(network: str, strategy: Strategy, how: str = "float32", scale: int = 256) -> loops.TrainStep:
    """The training step of a network; `scale` is the loss scale that mixed_float16 begins with."""
    with strategy.scope():
        model = build(network, SETTINGS[how])
        optimizer = keras.optimizers.SGD(RATES[network], momentum=0.9)
        if how == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return loops.TrainStep(model, loss, optimizer, **SETTINGS[how].options)


def flat(variables: Sequence[keras.Variable]) -> Floats:
    """All values of variables in one float64 vector."""
    return np.concatenate([np.ravel(variable.numpy()).astype("float64") for variable in variables])


def distance(found: Floats, right: Floats, start: Floats) -> float:
    """How far `found` is from `right`, as a share of the way from `start` to `right`."""
    return float(np.linalg.norm(found - right) / max(float(np.linalg.norm(right - start)), 1e-300))


def train(network: str, how: str, strategy: Strategy) -> Row:
    """Trains a network; returns its weights before and after, (2, weights)."""
    step = make_step(network, strategy, how)
    before = flat(step.model.weights)
    step.run(iter(loops.Batches(*examples(network, STEPS), BATCH)), STEPS)
    return {"weights": np.stack([before, flat(step.model.weights)])}


def resume(strategy: Strategy) -> Row:
    """Error of a resume: number of state values that differ or, if none, the distance after one more step."""
    first, second = make_step("conv", strategy), make_step("conv", strategy)
    data, start = loops.Batches(*examples("conv", 4), BATCH), flat(first.model.weights)
    first.run(iterator := iter(data), 3)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = loops.Checkpoint(folder)
        checkpoint.save(first, iterator)
        again = checkpoint.restore(second, data)
    pairs = zip(first.state().values(), second.state().values(), strict=True)
    differ = sum(int(np.sum(one.numpy() != other.numpy())) for one, other in pairs)
    first.run(iterator, 1)
    second.run(again, 1)
    apart = distance(flat(second.model.weights), flat(first.model.weights), start)
    return {"error": float(differ or apart), "bound": 1e-5}  # sums on a GPU have no fixed order


def overflow(strategy: Strategy) -> Row:
    """Error of loss scaling: how many fail of: weights unchanged, scale halved, training goes on."""
    step = make_step("batchnorm", strategy, "mixed_float16", scale=2**26)
    iterator, before = iter(loops.Batches(*examples("batchnorm", STEPS), BATCH)), flat(step.model.weights)
    step.run(iterator, 1)
    skipped = np.array_equal(flat(step.model.weights), before)
    halved = float(step.optimizer.dynamic_scale.numpy()) == 2**25
    step.run(iterator, STEPS - 1)
    after = flat(step.model.weights)
    trained = np.isfinite(after).all() and not np.array_equal(after, before)
    return {"error": float(3 - skipped - halved - trained), "bound": 0.0}


def nan(strategy: Strategy) -> Row:
    """Error 1 if a NaN in the third batch is not found, or changes the weights."""
    x, y = examples("conv", 3)
    x[2 * BATCH] = np.nan
    step, iterator = make_step("conv", strategy), iter(loops.Batches(x, y, BATCH, shuffle=False))
    step.run(iterator, 2)
    before, found = flat(step.model.weights), False
    try:
        step.run(iterator, 1)
    except loops.NonFiniteError:
        found = np.array_equal(flat(step.model.weights), before)
    return {"error": float(not found), "bound": 0.0}


def _update(optimizer: keras.Optimizer, variables: Sequence[keras.Variable], seed: tf.Tensor) -> Row:
    # By `apply` itself: `loops.Update` would give Keras' optimizer the fused kernels as well.
    normal = [tf.random.stateless_normal(v.shape, [seed, number]) for number, v in enumerate(variables)]
    optimizer.apply(normal, variables)
    return {}


def fused(name: str, strategy: Strategy) -> Row:
    """Ten updates by the fused kernel of an optimizer in two groups, beside Keras' own."""
    ends, momentum = [], {"momentum": 0.9} if name == "momentum" else {}
    for grouped in (False, True):
        with strategy.scope():
            model = build("lstm")
            start = flat(model.weights)
            optimizer = getattr(keras.optimizers, "SGD" if momentum else name)(**momentum)
            optimizer.learning_rate = 100.0 if name == "Adadelta" else 0.1
            if grouped:
                plan = optim.partition(model, {"kernels": "*kernel", "biases": "*bias"})
                optimizer = optim.GroupedOptimizer(optimizer, plan)
                assert optimizer.fused
            optimizer.build(model.trainable_variables)
            update = loops.replicated(functools.partial(_update, optimizer, model.trainable_variables))
        for number in range(10):
            update(tf.constant(number))
        ends.append(flat(model.weights))
    return {"error": distance(ends[1], ends[0], start), "bound": 32 * PLAIN.roundoff}


FUSED = ("SGD", "momentum", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta")
OTHER_CHECKS = {("checkpoint", "resumed"): resume, ("overflow", "skipped"): overflow, ("nan", "found"): nan}
OTHER_CHECKS |= {("fused", name): functools.partial(fused, name) for name in FUSED}


def work(kind: str, only: Sequence[str]) -> Iterator[Row]:
    """Runs all checks in `only` on a kind of device; the caller compares the weights."""
    strategy, trainings = set_devices(kind), []
    for network, settings in NETWORKS.items():
        truths = dict.fromkeys(SETTINGS[how].truth for how in settings if kind == "cpu")
        if kind.startswith("mirrored") and network != "conv":
            settings = ("float32",)
        hows = [how for how in (*truths, *settings) if not (how == "tf32" and "cpu" in kind)]
        trainings += [(network, how) for how in hows]
    checks = {names: functools.partial(train, *names) for names in trainings} | OTHER_CHECKS
    for (what, how), check in checks.items():
        if what in only:
            begun = time.time()
            row: Row = {"kind": kind, "what": what, "how": how}
            try:
                row |= check(strategy)
            except Exception as error:  # whatever it is, the other checks go on
                row |= {"problem": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
            yield row | {"seconds": time.time() - begun}
