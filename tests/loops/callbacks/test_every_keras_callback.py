"""Each class in `keras.callbacks` does in `train` what it does in `fit`, on the same data.

The classes are read from the installed Keras: one that is new there fails until it has a case here.
"""

import csv
import http.server
import json
import math
import re
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.loops.callbacks.fit_and_train import HOOKS, X, did, fit, network, ours
from tests.tolerance import rounding

K = keras.callbacks
pytestmark = [pytest.mark.numbers, pytest.mark.versions]


def _callback(train, folder):
    class Every(K.Callback):
        """Has all hooks, which do nothing."""

    for hook in HOOKS:
        if hook not in ("on_batch_begin", "on_batch_end"):  # the others call these
            setattr(Every, hook, lambda self, *numbers, logs=None: None)
    return did(train, [Every()])


def _callback_list(train, folder):
    history, own = K.History(), K.History()
    if train is ours:  # the list by itself, which `fit` takes with the model in it
        assert ours(K.CallbackList([own]), epochs=1, validates=False)[1] is own
    return did(train, [[K.CSVLogger(folder / "log.csv")], K.CallbackList([history])]), history.history


def _csv_logger(train, folder):
    runs = [
        did(train, [K.LearningRateScheduler(lambda epoch: 0.1), K.CSVLogger(folder / "log.csv", ";")]),
        did(train, [K.CSVLogger(folder / "log.csv", ";", append=True)]),
    ]
    with open(folder / "log.csv", newline="") as file:
        return runs, [[_number(cell) for cell in row] for row in csv.reader(file, delimiter=";")]


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text


def _early_stopping(train, folder):
    yield did(train, [K.EarlyStopping(patience=2, verbose=1, restore_best_weights=True)], epochs=30)
    stopping = K.EarlyStopping("accuracy", patience=1, min_delta=2.0, baseline=0.9, start_from_epoch=2)
    yield did(train, [stopping], epochs=9, validates=False)


def _history(train, folder):
    history = K.History()
    assert train([history], epochs=1)[1] is history
    return did(train, [history]), history.history, history.epoch


def _lambda_callback(train, folder):
    hooks = {hook: lambda *arguments, **named: None for hook in HOOKS if "on_batch" not in hook}
    return did(train, [K.LambdaCallback(**hooks)])


def _learning_rate_scheduler(train, folder):
    for schedule in (lambda epoch, rate: rate * 0.5, lambda epoch: 0.1 + epoch):
        yield did(train, [K.LearningRateScheduler(schedule, verbose=1)], validates=False)


def _model_checkpoint(train, folder):
    for options in (
        {"filepath": folder / "{epoch}-{val_loss:.2f}.keras", "verbose": 1},
        {"filepath": folder / "{epoch}-{batch}.weights.h5", "save_freq": 3, "save_weights_only": True},
        {"filepath": folder / "best.keras", "monitor": "val_accuracy", "save_best_only": True, "verbose": 1},
    ):
        yield did(train, [K.ModelCheckpoint(**options)], validates="save_freq" not in options)
    for path in sorted(folder.iterdir()):
        model = network()
        model.load_weights(path)
        yield path.name, model.get_weights()


def _orbax_checkpoint(train, folder):
    pytest.importorskip("orbax.checkpoint")
    checkpoint = K.OrbaxCheckpoint(str(folder), monitor="val_accuracy", max_to_keep=2)
    return did(train, [checkpoint])


def _backup_and_restore(train, folder):
    for options in ({"save_freq": 2}, {"double_checkpoint": True, "delete_checkpoint": False}):

        def power_cut(epoch, logs):
            if epoch == 1:
                raise OSError("power cut")

        with pytest.raises(OSError, match="power cut"):
            cut = K.LambdaCallback(on_epoch_end=power_cut)
            train([K.BackupAndRestore(folder / "backup", **options), cut], validates=False)
        yield _files(folder)
        yield did(train, [K.BackupAndRestore(folder / "backup", **options)], validates=False)
        yield _files(folder)


def _progbar_logger(train, folder):
    return did(train, [K.ProgbarLogger()])


def _reduce_lr_on_plateau(train, folder):
    plateau = K.ReduceLROnPlateau("accuracy", 0.3, patience=1, verbose=1, min_delta=9.0, cooldown=1)
    return did(train, [plateau], epochs=6, validates=False)


def _remote_monitor(train, folder):
    heard = []

    class Hears(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            heard.append((self.path, self.headers["Content-Type"], self.headers["X-Run"], body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    pytest.importorskip("requests")
    with http.server.HTTPServer(("127.0.0.1", 0), Hears) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        root = f"http://127.0.0.1:{server.server_port}"
        yield did(train, [K.RemoteMonitor(root, "/here", headers={"X-Run": "7"}, send_as_json=True)])
        yield did(train, [K.RemoteMonitor(root, field="logs")], validates=False)
        server.shutdown()
        thread.join()
    for path, kind, run, body in heard[:3]:
        yield path, kind, run, json.loads(body)
    yield [(path, kind, re.sub(r"\d+(\.|%2E)\d+", "N", body)) for path, kind, _, body in heard[3:]]


def _swap_ema_weights(train, folder):
    class Look(K.Callback):
        """What a callback after it finds in the model."""

        def on_epoch_end(self, epoch, logs=None):
            self.seen = [*vars(self).get("seen", []), self.model.get_weights()]

    for swap_on_epoch in (False, True):
        look = Look()
        yield did(train, [K.SwapEMAWeights(swap_on_epoch=swap_on_epoch), look], averages=True), look.seen


def _tensorboard(train, folder):
    options = {"histogram_freq": 1, "write_images": True, "embeddings_freq": 2}
    yield did(train, [K.TensorBoard(folder, **options, update_freq="batch", write_steps_per_second=True)])
    for part in ("train", "validation"):
        yield _events(folder / part)


def _events(folder):
    """What an event file holds, by tag. Not the graph of `train_function`, which only `fit` has."""
    found = {}
    (file,) = folder.glob("events.*")
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            plugin = value.metadata.plugin_data.plugin_name
            known = plugin == "scalars" and "per_second" not in value.tag
            found.setdefault(value.tag, [plugin]).append(
                (event.step, float(tf.make_ndarray(value.tensor)) if known else None)
            )
    return found


def _terminate_on_nan(train, folder):
    x = X.copy()
    x[12] = math.nan  # in the third batch
    return did(train, [K.TerminateOnNaN()], x=x)


CASES = {
    "BackupAndRestore": _backup_and_restore,
    "CSVLogger": _csv_logger,
    "Callback": _callback,
    "CallbackList": _callback_list,
    "EarlyStopping": _early_stopping,
    "History": _history,
    "LambdaCallback": _lambda_callback,
    "LearningRateScheduler": _learning_rate_scheduler,
    "ModelCheckpoint": _model_checkpoint,
    "OrbaxCheckpoint": _orbax_checkpoint,
    "ProgbarLogger": _progbar_logger,
    "ReduceLROnPlateau": _reduce_lr_on_plateau,
    "RemoteMonitor": _remote_monitor,
    "SwapEMAWeights": _swap_ema_weights,
    "TensorBoard": _tensorboard,
    "TerminateOnNaN": _terminate_on_nan,
}
CLASSES = {name for name, kind in vars(K).items() if isinstance(kind, type)}


def test_no_class_is_forgotten():
    assert CLASSES <= set(CASES)


# They look on, where the others act on the run or keep something of it.
LOOK_ON = {"CSVLogger", "Callback", "History", "LambdaCallback", "ProgbarLogger", "RemoteMonitor"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=pytest.mark.release if each in LOOK_ON else ()) for each in sorted(CASES)],
)
def test_it_does_what_it_does_in_fit(name, tmp_path, capsys, monkeypatch):
    if name not in CLASSES:
        pytest.skip(f"this Keras has no {name}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    seen = {}
    for train in (fit, ours):
        folder = tmp_path / train.__name__
        folder.mkdir()
        what = CASES[name](train, folder)
        what = list(what) if hasattr(what, "__next__") else what
        seen[train] = what, _files(folder), _screen(capsys.readouterr().out, folder)
    _assert_same(seen[ours], seen[fit], name)


def _files(folder):
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return [re.sub(r"events\.out\.tfevents\..*", "events", path) for path in paths]


def _screen(text, folder):
    """What stays of what was printed, without times and colours."""
    text = re.sub(r"\x1b\[\d*m|\x08", "", text).replace(str(folder), "FOLDER")
    lines = [line.rpartition("\r")[2] for line in text.split("\n")]
    return [re.sub(r"\d+(\.\d+)?[mu]?s(/step)?\b", "TIME", line) for line in lines]


def _assert_same(own, theirs, where):
    if isinstance(theirs, dict):
        assert set(own) == set(theirs), (where, own.keys() ^ theirs.keys())
        for key, value in theirs.items():
            _assert_same(own[key], value, f"{where}[{key}]")
    elif isinstance(theirs, (list, tuple)):
        assert len(own) == len(theirs), (where, own, theirs)
        for number, value in enumerate(theirs):
            _assert_same(own[number], value, f"{where}[{number}]")
    elif isinstance(theirs, (float, np.ndarray)):
        close = 4 * rounding()  # what is logged is float32
        np.testing.assert_allclose(own, theirs, rtol=close, atol=close, err_msg=where)
    else:
        assert own == theirs, where
