"""Training in `fit` and in `train`, with callbacks whose calls are written down."""

import functools

import keras
import numpy as np

from gradloop import loops
from gradloop.loops.support.keras_private import take_initial_epoch

K = keras.callbacks

LOSS = "sparse_categorical_crossentropy"
RANDOM = np.random.RandomState(0)
X, Y = RANDOM.rand(22, 4), RANDOM.randint(0, 3, 22)  # in batches of 5, the last one short
HELD_OUT = X[:9], (Y[:9] + 1) % 3  # which gets worse, at last
HOOKS = [
    f"on_{part}_{when}"
    for part in ("train", "epoch", "batch", "train_batch", "test", "test_batch")
    for when in ("begin", "end")
]


def network():
    D = keras.layers.Dense
    keras.utils.set_random_seed(11)
    return keras.Sequential(
        [keras.Input((4,)), D(5, "tanh", name="body"), D(3, "softmax", name="head")], name="net"
    )


def _optimizer(averages):
    return keras.optimizers.SGD(0.5, momentum=0.5, use_ema=averages, ema_momentum=0.9)


@functools.cache  # compiling takes most of the time
def _compiled(averages):
    model = network()
    model.compile(_optimizer(averages), LOSS, metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    return model, _values([*model.variables, *model.optimizer.variables])


@functools.cache
def _stepped(averages):
    step = loops.TrainStep(network(), LOSS, _optimizer(averages), metrics=["accuracy"], on_nonfinite="ignore")
    return step, _values(step.state().values())


def _values(variables):
    return [(variable, np.array(variable.numpy())) for variable in variables]


def _put_back(values):
    for variable, value in values:
        variable.assign(value)


def fit(callbacks, x=X, epochs=3, averages=False, validates=True):
    model, before = _compiled(averages)
    _put_back(before)
    take_initial_epoch(model)  # which Keras leaves on it
    verbose = int(any(isinstance(callback, K.ProgbarLogger) for callback in callbacks))
    run = {"validation_data": HELD_OUT, "validation_batch_size": 5} if validates else {}
    return model, model.fit(x, Y, 5, epochs, verbose=verbose, shuffle=False, callbacks=callbacks, **run)


def ours(callbacks, x=X, epochs=3, averages=False, validates=True):
    step, before = _stepped(averages)
    _put_back(before)
    data, held_out = (loops.Batches(*pair, 5, shuffle=False) for pair in ((x, Y), HELD_OUT))
    run = {"validation": held_out} if validates else {}  # each time it is traced again
    return step.model, loops.train(step, data, epochs=epochs, callbacks=callbacks, **run)


def did(train, callbacks, **options):
    """Trains, and returns what can be seen afterwards: hooks in their order, history, rate and weights."""
    calls = []
    for callback in callbacks:
        if isinstance(callback, K.Callback) and not isinstance(callback, (K.CallbackList, K.SwapEMAWeights)):
            _listen(callback, calls)  # the end of a run asks the last of these once more
    model, history = train(callbacks, **options)
    stepped = _stepped(options.get("averages", False))[0]
    rates = model.optimizer.learning_rate if train is fit else stepped.optimizer.learning_rate
    return {
        "calls": calls,
        "history": history.history,
        "epochs": history.epoch,
        "rate": float(rates.numpy()),
        "stopped": bool(model.stop_training),
        "weights": model.get_weights(),
    }


def _listen(callback, calls):
    """Writes down the hooks that a callback has, where it is called by, and the names in its logs."""
    name = type(callback).__name__
    by_epoch = getattr(callback, "save_freq", None) == "epoch"  # then batch hooks look at that, and return

    def listening(hook, method):
        def listen(*arguments, **named):
            numbers = [argument for argument in arguments if isinstance(argument, int)]
            (logs,) = [each for each in (*arguments, *named.values()) if isinstance(each, dict)]
            calls.append((name, hook, numbers, sorted(logs)))
            return method(*arguments, **named)

        return listen

    for hook in HOOKS:
        overridden = getattr(type(callback), hook) is not getattr(K.Callback, hook) or hook in vars(callback)
        if overridden and not (by_epoch and "batch" in hook):
            setattr(callback, hook, listening(hook, getattr(callback, hook)))
