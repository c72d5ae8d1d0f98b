"""Backbones: every network of keras.applications, their pixels, their weights, their doors."""

from pathlib import Path

import keras
import numpy as np
import pytest

from gradloop import models, optim

pytestmark = pytest.mark.numbers

WEIGHTS = Path(__file__).parents[4] / "shared" / "data" / "mobilenet_v2_imagenet_notop.weights.h5"
MODULES = keras.applications


def pixels(size, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("float32")


def with_weights_of(own, reference):
    reference.set_weights(own.get_weights())
    return reference


def test_every_constructor_of_keras_is_known():
    constructors = {name for name in dir(MODULES) if name[0].isupper()}
    assert set(models.networks()) == constructors
    assert len(constructors) >= 38


# One network of each way of preprocessing: -1 to 1, BGR, own layers; more on request. Mean and deviation,
# which large networks take, are in `test_preprocessing.py` and below.
@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("MobileNet", MODULES.mobilenet),
        pytest.param("MobileNetV2", MODULES.mobilenet_v2, marks=pytest.mark.long),
        ("VGG16", MODULES.vgg16),
        pytest.param("ResNet50", MODULES.resnet50, marks=pytest.mark.long),
        pytest.param("ResNet50V2", MODULES.resnet_v2, marks=pytest.mark.long),
        pytest.param("DenseNet121", MODULES.densenet, marks=pytest.mark.long),
        pytest.param("EfficientNetB0", MODULES.efficientnet, marks=pytest.mark.long),
        pytest.param("MobileNetV3Small", MODULES.mobilenet_v3, marks=pytest.mark.release),
        pytest.param("ConvNeXtTiny", MODULES.convnext, marks=pytest.mark.long),
    ],
)
def test_takes_pixels_as_keras_takes_preprocessed_ones(name, module, tmp_path):
    model = models.backbone(name, (32, 32, 3))
    reference = getattr(MODULES, name)(include_top=False, weights=None, input_shape=(32, 32, 3))
    with_weights_of(model, reference)
    x = pixels(32)
    expected = reference(module.preprocess_input(x.copy())).numpy()
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    # The variables keep the names that they have in Keras' network.
    assert list(optim.named_variables(model)) == list(optim.named_variables(reference))
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


def test_other_preprocessing():
    x = pixels(32)
    expected = {
        "tf": x / 127.5 - 1,
        "torch": (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "caffe": x[..., ::-1] - [103.939, 116.779, 123.68],
        None: x,
    }
    for mode, images in expected.items():
        model = models.backbone("VGG16", (32, 32, 3), preprocessing=mode)
        before = models.truncate(model, "preprocessing") if mode else None
        if before is not None:
            np.testing.assert_allclose(before(x), images, rtol=1e-5, atol=1e-5)
        else:
            assert not any(layer.name == "preprocessing" for layer in model.layers)
    inside = models.backbone("MobileNetV3Small", (32, 32, 3), preprocessing=None)
    assert not any(isinstance(layer, keras.layers.Rescaling) for layer in inside.layers[:3])


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the MobileNetV2 weights are not beside this checkout")
def test_weights_from_a_file_give_the_features_that_keras_gives():
    model = models.backbone("mobilenetv2", (96, 96, 3), WEIGHTS, preprocessing="torch")
    reference = MODULES.MobileNetV2(include_top=False, weights=str(WEIGHTS), input_shape=(96, 96, 3))
    x = pixels(96)
    expected = reference((x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).numpy()
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_weights_of_a_file_and_their_top(tmp_path):
    model = models.backbone("MobileNet", (32, 32, 3), include_top=True)
    assert model.output_shape == (None, 1000)
    path = tmp_path / "top.weights.h5"
    model.save_weights(path)
    again = models.backbone("MobileNet", (32, 32, 3), str(path), include_top=True)
    np.testing.assert_array_equal(again(pixels(32)), model(pixels(32)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("VGG17", (32, 32, 3)), "Did you mean 'VGG1[69]'"),
        ((None, (32, 32, 3)), "no image network"),
        (("VGG16", (31, 32, 3)), "`input_shape` .31, 32, 3. does not fit VGG16.* at least 32x32"),
        (("InceptionV3", (74, 74, 3)), "does not fit InceptionV3.* at least 75x75"),
        (("VGG16", (32, 32, 1)), "np.repeat"),
        (("VGG16", (32, 32)), r"must be \(height, width, 3\)"),
        (("VGG16", 32), r"must be \(height, width, 3\)"),
        (("VGG16", (0, 32, 3)), r"must be \(height, width, 3\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.backbone(*arguments)


def test_bad_preprocessing():
    with pytest.raises(ValueError, match="`preprocessing` must be 'own', 'tf', 'torch', 'caffe' or None"):
        models.backbone("VGG16", (32, 32, 3), preprocessing="pytorch")
    with pytest.raises(ValueError, match="EfficientNetB0 has its own as layers"):
        models.backbone("EfficientNetB0", (32, 32, 3), preprocessing="torch")


def test_bad_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="`weights` must be None, 'imagenet' or a file"):
        models.backbone("VGG16", (32, 32, 3), "imagnet")
    text = tmp_path / "weights.txt"
    text.write_text("")
    with pytest.raises(ValueError, match="no `.h5` or `.weights.h5` file"):
        models.backbone("VGG16", (32, 32, 3), text)
    broken = tmp_path / "broken.weights.h5"
    broken.write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match="are not those of VGG16"):
        models.backbone("VGG16", (32, 32, 3), broken)
    renamed = tmp_path / "renamed.h5"
    models.backbone("VGG16", (32, 32, 3)).save_weights(tmp_path / "vgg16.weights.h5")
    (tmp_path / "vgg16.weights.h5").rename(renamed)
    with pytest.raises(ValueError, match="VGG16 with this top .what `save_weights` wrote is a .weights.h5"):
        models.backbone("VGG16", (32, 32, 3), renamed)
    other = tmp_path / "other.weights.h5"
    models.backbone("MobileNet", (32, 32, 3)).save_weights(other)
    with pytest.raises(ValueError, match="are not those of MobileNetV2 with this top"):
        models.backbone("MobileNetV2", (32, 32, 3), other)


def test_imagenet_without_a_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise Exception("URL fetch failure on https://host/file.h5: None -- no route")

    # What Keras' own constructor does then.
    monkeypatch.setattr(MODULES, "VGG16", _failing(refuse))
    with pytest.raises(ConnectionError, match="pass its path as `weights`"):
        models.backbone("VGG16", (32, 32, 3), "imagenet")


def _failing(refuse):
    def VGG16(include_top, weights, input_tensor, input_shape):
        refuse()

    VGG16.__module__ = "keras.src.applications.vgg16"
    return VGG16
