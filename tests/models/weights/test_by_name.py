"""Weights by name: what is written is what is read, by models that have those names, or nothing is."""

import pickle
import zipfile

import keras
import numpy as np
import pytest

from gradloop import loops, models, optim

L = keras.layers


def network(seed=0, filters=4, classes=2):
    keras.utils.set_random_seed(seed)
    layers = [L.Conv2D(filters, 3, name="conv"), L.BatchNormalization(name="norm"), L.ReLU()]
    return models.classifier(keras.Sequential([keras.Input((8, 8, 3)), *layers]), classes, hidden=(5,))


def weights(model):
    return {name: variable.numpy() for name, variable in optim.named_variables(model).items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)


def written(file, values):
    np.savez(file, **values)


HEAD = ["head_hidden1/kernel", "head_hidden1/bias", "head/kernel", "head/bias"]


def test_all_weights(tmp_path):
    model, other, file = network(), network(seed=1), tmp_path / "all.npz"
    model.get_layer("norm").moving_mean.assign([1, 2, 3, 4])
    model.get_layer("conv").trainable = False
    names = models.save_weights(model, file)
    assert names == list(weights(model)) and "norm/moving_mean" in names
    assert models.load_weights(other, str(file)) == names
    assert_same(weights(model), weights(other))


def test_a_normalization_goes_by_the_weights_of_the_file(tmp_path):
    def normalizing(mean):
        model = keras.Sequential([keras.Input((2,)), L.Normalization(name="normalization"), L.Dense(1)])
        model.get_layer("normalization").adapt(np.array([[mean, 0.0], [mean + 2.0, 4.0]], "float32"))
        return model

    model, other, file = normalizing(1.0), normalizing(9.0), tmp_path / "all.npz"
    models.save_weights(model, file)
    models.load_weights(other, file)
    x = np.array([[3.0, 3.0]], "float32")  # (3 - 2) / 1 and (3 - 2) / 2
    np.testing.assert_allclose(other.get_layer("normalization")(x), [[1.0, 0.5]])


def test_a_head_for_another_backbone(tmp_path):
    model, file = network(), tmp_path / "head.npz"
    assert models.save_weights(model, file, "head") == HEAD
    keras.utils.set_random_seed(1)
    other = models.classifier(
        keras.Sequential([keras.Input((6, 6, 1)), L.Conv2D(4, 5, name="only")]), 2, hidden=(5,)
    )
    before = weights(other)
    assert models.load_weights(other, file) == HEAD
    assert_same(weights(other), before | {name: weights(model)[name] for name in HEAD})


def test_a_head_of_mobilenet_at_another_size(tmp_path):
    one, other = (models.classifier(models.backbone("MobileNetV2", (size, size, 3)), 3) for size in (32, 64))
    models.save_weights(one, tmp_path / "head.npz", "head")
    assert models.load_weights(other, tmp_path / "head.npz") == ["head/kernel", "head/bias"]
    for value, expected in zip(other.get_layer("head").get_weights(), one.get_layer("head").get_weights()):
        np.testing.assert_array_equal(value, expected)


def test_several_filters_choose_what_any_of_them_finds(tmp_path):
    model = network()
    head_bias = optim.kind("bias") & "head"
    found = models.save_weights(model, tmp_path / "some.npz", L.BatchNormalization, head_bias)
    norm = [f"norm/{kind}" for kind in ("gamma", "beta", "moving_mean", "moving_variance")]
    assert found == [*norm, "head_hidden1/bias", "head/bias"]
    with np.load(tmp_path / "some.npz") as archive:
        assert sorted(archive.files) == sorted(found)


def test_dtypes(tmp_path):
    for dtype in ("bfloat16", "float16", "float64"):
        keras.config.set_dtype_policy(dtype)
        model, other = network(), network(seed=1)
        models.save_weights(model, tmp_path / "all.npz")
        models.load_weights(other, tmp_path / "all.npz")
        assert other.get_layer("conv").kernel.dtype == dtype
        assert_same(weights(model), weights(other))


def dense(mode=None, seed=0):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((6,)), L.Dense(4, name="a"), L.Dense(2, name="head")])
    for layer in model.layers if mode else ():  # of the model Keras warns that its `Input` cannot
        layer.quantize(mode)
    return model


AROUND = "Nothing was loaded. Load weights of a model that is not quantized before `model.quantize"


@pytest.mark.parametrize(
    "written_by, read_by, filters, match",
    [
        (None, "int8", [], r"cannot hold: a/kernel, float32 for int8, head/kernel, float32 for int8\."),
        (None, "int4", [], r"of other shapes than model .*: a/kernel \(6, 4\) for \(6, 2\)"),
        ("int8", None, [], "that model .* has not: a/kernel_scale"),
        ("int8", None, ["*/kernel"], "cannot hold: a/kernel, int8 for float32"),
        ("int8", "int8", ["*/kernel"], "cannot hold: a/kernel without a/kernel_scale"),
        ("int8", "int4", [], r"of other shapes than model .*: a/kernel \(6, 4\) for \(6, 2\)"),
        ("float8", None, [], "that model .* has not: a/inputs_scale"),
        ("float8", "int8", ["*/kernel"], "cannot hold: a/kernel, float32 for int8"),
    ],
)
def test_quantized_weights_and_others(written_by, read_by, filters, match, tmp_path):
    model, file = dense(read_by, seed=1), tmp_path / "some.npz"
    before = weights(model)
    models.save_weights(dense(written_by), file, *filters)
    with pytest.raises(ValueError, match=f"(?s){match}.*{AROUND}"):
        models.load_weights(model, file)
    assert_same(weights(model), before)


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_weights_of_the_same_mode(mode, tmp_path):
    one, other = dense(mode), dense(mode, seed=1)
    models.save_weights(one, tmp_path / "all.npz")
    models.load_weights(other, tmp_path / "all.npz")
    assert_same(weights(one), weights(other))


@pytest.mark.parametrize(
    "value, dtype, held",
    [
        (1e6, "float16", False),
        (1e-9, "float16", False),
        (1e6, "bfloat16", True),
        (np.nan, "float16", True),
        (1e300, "float32", False),
        (1 / 3, "float16", True),
    ],
)
def test_numbers_that_a_dtype_cannot_hold(value, dtype, held, tmp_path):
    keras.config.set_dtype_policy(dtype)
    model, file = dense(), tmp_path / "a.npz"
    written(file, {"a/bias": np.array([value, 0.0, 0.0, 0.0])})
    if held:
        assert models.load_weights(model, file) == ["a/bias"]
        found = model.get_layer("a").bias.numpy().astype("float64")
        np.testing.assert_allclose(found, [value, 0, 0, 0], rtol=1e-2)
    else:
        with pytest.raises(ValueError, match=r"cannot hold: a/bias, float64 for \w+ \(up to .*wider dtype"):
            models.load_weights(model, file)


def test_names_that_numpy_takes_for_its_own(tmp_path):
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__()
            self.file = self.add_weight(shape=(2,), initializer="ones", name="file")
            self.build((None, 2))

    model, other = Scaled(), Scaled()
    model.file.assign([2.0, 3.0])
    assert models.save_weights(model, tmp_path / "all.npz") == ["file"]
    models.load_weights(other, tmp_path / "all.npz")
    np.testing.assert_array_equal(other.file, [2.0, 3.0])


@pytest.mark.parametrize("filters", [["heed"], ["head", "heed"], [L.Conv3D]])
def test_filters_that_match_nothing(filters, tmp_path):
    with pytest.raises(optim.SelectionError, match="matches none of the 10 variables"):
        models.save_weights(network(), tmp_path / "none.npz", *filters)
    assert not list(tmp_path.iterdir())


def test_near_misses_are_named(tmp_path):
    with pytest.raises(optim.SelectionError, match="Did you mean 'head"):
        models.save_weights(network(), tmp_path / "none.npz", "heed")


def refused(model, file, error, match):
    before = weights(model)
    with pytest.raises(error, match=match):
        models.load_weights(model, file)
    assert_same(weights(model), before)


def test_names_that_the_model_has_not(tmp_path):
    values = weights(network())
    values["head/kernle"] = values.pop("head/kernel")
    written(tmp_path / "other.npz", values)
    match = r"weights that model '\w+' has not: head/kernle\. Did you mean 'head/kernel.*Nothing was loaded"
    refused(network(seed=1), tmp_path / "other.npz", ValueError, match)


def test_other_shapes(tmp_path):
    models.save_weights(network(classes=3), tmp_path / "three.npz")
    match = r"shapes than model '\w+': head/kernel \(5, 3\) for \(5, 2\), head/bias \(3,\) for \(2,\)\. Noth"
    refused(network(seed=1), tmp_path / "three.npz", ValueError, match)


def test_files_that_are_none(tmp_path):
    model, file = network(), tmp_path / "file.npz"
    models.save_weights(model, file)
    whole = file.read_bytes()
    refused(model, tmp_path / "no.npz", FileNotFoundError, r"`path`: there is no file '.*no\.npz'")
    array = np.lib.format.magic(1, 0) + b"..."
    for content in (b"", whole[:-1], whole[: len(whole) // 2], pickle.dumps(weights(model)), array):
        file.write_bytes(content)
        refused(model, file, ValueError, "no file of weights, or not whole: ")
    # One byte that a disk has changed.
    place = whole.index(weights(model)["conv/kernel"].tobytes())
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    refused(model, file, ValueError, "no file of weights, or not whole: Bad CRC-32")
    written(file, {"head/bias": np.array([{}, {}])})
    refused(model, file, ValueError, "not whole: Object arrays cannot be loaded when allow_pickle=False")
    written(file, {"head/bias": np.array(["a", "b"])})
    refused(model, file, ValueError, "no file of weights: it holds other things than numbers")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("head/bias", "text")
    refused(model, file, ValueError, "no file of weights: it holds other things than numbers")
    written(file, {})
    refused(model, file, ValueError, r"file\.npz' holds no weights")


@pytest.mark.parametrize("path", ["head.h5", "head", "head.npz.txt"])
def test_other_endings(path, tmp_path):
    for call in (models.save_weights, models.load_weights):
        with pytest.raises(ValueError, match="`path` .* must end in '.npz'"):
            call(network(), tmp_path / path)
    assert not list(tmp_path.iterdir())


def test_there_is_no_best_checkpoint_yet(tmp_path):
    checkpoint = loops.Checkpoint(tmp_path, keep=[loops.Best("loss")])
    with pytest.raises(TypeError, match="`path` must be .*, not None. .`best` and `newest` of .* None where"):
        models.load_weights(network(), checkpoint.best)  # type: ignore[arg-type]  # there is none


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`path`: there is no folder '.*new', make it first"):
        models.save_weights(network(), tmp_path / "new" / "head.npz")


def test_a_model_that_is_not_built(tmp_path):
    models.save_weights(network(), tmp_path / "all.npz")
    model = keras.Sequential([L.Dense(2)])
    for call in (models.save_weights, models.load_weights):
        with pytest.raises(optim.NotBuiltError, match="has no variables to name yet"):
            call(model, tmp_path / "all.npz")


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path, monkeypatch):
    model, other, file = network(), network(seed=1), tmp_path / "all.npz"
    models.save_weights(model, file)

    def full(stream, *args, **settings):
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np.lib.format, "write_array", full)
        with pytest.raises(OSError, match="No space left"):
            models.save_weights(other, file)
    assert list(tmp_path.iterdir()) == [file]
    models.save_weights(other, file, "head")
    assert list(tmp_path.iterdir()) == [file]
    assert models.load_weights(model, file) == HEAD
    assert_same({n: weights(model)[n] for n in HEAD}, {n: weights(other)[n] for n in HEAD})
