"""Files of models: what is refused before and after Keras reads them, and what is made of the rest."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import models, optim

from shared import saved_classifier
from shared.digit_images import DataError

L = keras.layers


def network(
    shape: tuple[int | None, ...] = (6, 6, 3), units: int = 2, activation: str = "softmax"
) -> keras.Model:
    x = keras.Input(shape)
    return keras.Model(x, L.Dense(units, activation)(L.GlobalAveragePooling2D()(x)))


def saved(path: Path, model: keras.Model, name: str = "model.keras") -> Path:
    model.save(path / name)
    return path / name


@pytest.mark.parametrize("make", [models.LeNet5, models.lenet5_sequential, models.lenet5_functional])
def test_lenet5_of_every_kind(make: Callable[[], keras.Model], tmp_path: Path) -> None:
    model = make()
    path = saved(tmp_path, model)
    saved_classifier.check_file(path)
    loaded = saved_classifier.load(path, None, 5)
    assert (loaded.shape, loaded.dtype, loaded.classes) == ((5, 28, 28, 1), "float32", 10)
    x = np.random.default_rng(0).random(loaded.shape, "float32")
    np.testing.assert_allclose(loaded.call(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*HDF5 file:UserWarning")
def test_h5(tmp_path: Path) -> None:
    model = network()
    path = saved(tmp_path, model, "model.h5")
    saved_classifier.check_file(path)
    x = np.random.default_rng(0).random((2, 6, 6, 3), "float32")
    np.testing.assert_allclose(saved_classifier.load(path, None, 2).call(x), model(x), rtol=1e-5)


def test_a_model_of_any_size(tmp_path: Path) -> None:
    path = saved(tmp_path, network((None, None, 1)))
    with pytest.raises(DataError, match=r"model\.keras: takes images of any size; choose one with --size"):
        saved_classifier.load(path, None, 2)
    assert saved_classifier.load(path, 9, 2).shape == (2, 9, 9, 1)
    path = saved(tmp_path, network((None, 8, 3)))
    assert saved_classifier.load(path, 8, 2).shape == (2, 8, 8, 3)
    with pytest.raises(DataError, match=r"--size 9: .*model\.keras reads Nonex8 alone; leave"):
        saved_classifier.load(path, 9, 2)


def test_a_size_for_a_model_that_has_its_own(tmp_path: Path) -> None:
    path = saved(tmp_path, network())
    assert saved_classifier.load(path, 6, 2).shape == (2, 6, 6, 3)
    with pytest.raises(DataError, match=r"--size 7: .*model\.keras reads 6x6 alone; leave the option out"):
        saved_classifier.load(path, 7, 2)


def test_dropout_and_batch_normalisation_rest(tmp_path: Path) -> None:
    x = keras.Input((4, 4, 3))
    y = L.Dropout(0.5)(L.BatchNormalization()(L.Flatten()(x)))
    loaded = saved_classifier.load(saved(tmp_path, keras.Model(x, L.Dense(2)(y))), None, 3)
    images = np.random.default_rng(0).random((3, 4, 4, 3), "float32")
    np.testing.assert_array_equal(loaded.call(images), loaded.call(images))
    np.testing.assert_allclose(loaded.call(images)[0], loaded.call(images[[0, 0, 0]])[1], rtol=1e-5)


def test_a_grouped_optimizer_in_the_file_does_no_harm(tmp_path: Path) -> None:
    model = models.LeNet5()
    plan = optim.partition(model, {"all": "*"})
    optimizer = optim.GroupedOptimizer(keras.optimizers.SGD(0.1), plan)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(np.zeros((4, 28, 28, 1)), np.zeros(4), verbose=0)
    assert saved_classifier.load(saved(tmp_path, model), None, 2).classes == 10


# Refused by the file


WHOLE = r"wanted a whole model, as model\.save\(\"NAME\.keras\"\) writes it"


def test_places_and_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path.name}: is a folder; {WHOLE}"):
        saved_classifier.check_file(tmp_path)
    with pytest.raises(DataError, match=f"gone.keras: no such file; {WHOLE}"):
        saved_classifier.check_file(tmp_path / "gone.keras")
    for name, kind in (("a.pt", "neither .keras nor .h5"), ("a.weights.h5", "weights without their model")):
        (tmp_path / name).touch()
        with pytest.raises(DataError, match=f"{name}: is {kind}; {WHOLE}"):
            saved_classifier.check_file(tmp_path / name)


@pytest.mark.filterwarnings("ignore:.*HDF5 file:UserWarning")
@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
def test_other_content(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, network(), name)
    content = path.read_bytes()
    saved_classifier.check_file(path)
    for bad in (b"", b"hello", content[:7], content[: len(content) // 2]):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=rf"{name}: (is not a whole \.|Keras cannot load it)"):
            saved_classifier.check_file(path)
            saved_classifier.load(path, None, 2)  # the start of an .h5 is right, what follows is not


def test_another_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(DataError, match=r"a\.keras: is not a whole \.keras file, perhaps truncated or"):
        saved_classifier.check_file(tmp_path / "a.keras")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, network())

    def refused(*_: object) -> None:  # as root, who may read everything, is not
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", refused)
    with pytest.raises(DataError, match=rf"model\.keras: cannot be read \(Permission denied\); {WHOLE}"):
        saved_classifier.check_file(path)


# Refused by what is in it


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    x = keras.Input((4, 4, 3))
    path = saved(tmp_path, keras.Model(x, L.Dense(2)(L.Lambda(lambda v: v[:, 0, 0])(x))))
    with pytest.raises(DataError, match=r"model\.keras: Keras cannot load it \(Requested the deseriali"):
        saved_classifier.load(path, None, 2)


def test_unknown_layers_are_named(tmp_path: Path) -> None:
    class Own(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

    x = keras.Input((4, 4, 3))
    path = saved(tmp_path, keras.Model(x, L.Dense(2)(L.Flatten()(Own()(x)))))
    with pytest.raises(DataError, match=r"Keras cannot load it \(Could not locate class 'Own'.* from Python"):
        saved_classifier.load(path, None, 2)


def two_inputs() -> keras.Model:
    a, b = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    return keras.Model([a, b], L.Dense(2)(L.Flatten()(L.Add()([a, b]))))


def two_outputs() -> keras.Model:
    x = keras.Input((4, 4, 3))
    flat = L.Flatten()(x)
    return keras.Model(x, [L.Dense(2)(flat), L.Dense(3)(flat)])


def pixelwise() -> keras.Model:
    x = keras.Input((4, 4, 3))
    return keras.Model(x, L.Dense(2)(x))


def of_numbers() -> keras.Model:
    x = keras.Input((8,))
    return keras.Model(x, L.Dense(2)(x))


OTHERS: list[tuple[Callable[[], keras.Model], str]] = [
    (two_inputs, "has 2 inputs; wanted one, of images"),
    (of_numbers, r"reads inputs of shape \(None, 8\); wanted images \(batch, height, width, 1 or 3\)"),
    (lambda: network((6, 6, 4)), r"reads inputs of shape \(None, 6, 6, 4\); wanted images"),
    (two_outputs, r"gives several outputs; wanted \(batch, classes\)"),
    (pixelwise, r"gives outputs of shape \(2, 4, 4, 2\); wanted \(batch, classes\)"),
    (
        lambda: network(units=1, activation="sigmoid"),
        r"gives outputs of shape \(2, 1\); wanted \(batch, classes\), one output a class",
    ),
]


@pytest.mark.parametrize(("make", "message"), OTHERS)
def test_no_classifier_of_images(make: Callable[[], keras.Model], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.keras: " + message):
        saved_classifier.load(saved(tmp_path, make()), None, 2)


def test_a_size_that_does_not_suit(tmp_path: Path) -> None:
    x = keras.Input((None, None, 3))
    y = L.GlobalAveragePooling2D()(L.Conv2D(2, 5)(x))
    path = saved(tmp_path, keras.Model(x, y))
    assert saved_classifier.load(path, 5, 2).classes == 2
    with pytest.raises(DataError, match=r"does not run on images .* of shape \(2, 4, 4, 3\) \(.+\); train"):
        saved_classifier.load(path, 4, 2)


def test_one_trace_whatever_the_data(tmp_path: Path) -> None:
    loaded = saved_classifier.load(saved(tmp_path, network()), None, 4)
    call: Any = loaded.call
    for _ in range(3):
        loaded.call(np.zeros((4, 6, 6, 3), "float32"))
    assert isinstance(call, tf.types.experimental.PolymorphicFunction)
    assert call.experimental_get_tracing_count() == 1
