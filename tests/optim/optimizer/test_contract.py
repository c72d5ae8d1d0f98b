"""The public names, and every example in a docstring."""

import doctest
import importlib
import pkgutil

import keras
import pytest

from gradloop import optim

MODULES = sorted(f"{optim.__name__}.{found.name}" for found in pkgutil.iter_modules(optim.__path__))


def test_public_names():
    assert sorted(optim.__all__) == [
        *("Filter", "FilterLike", "Group", "GroupedOptimizer", "KernelDecay", "LRCurve", "NotBuiltError"),
        *("OneCycle", "Plan", "SelectionError", "SlantedTriangular", "StateError", "VariableInfo"),
        *("depths", "discriminative", "from_layer", "kind", "last_layers", "layer_type", "layers"),
        *("layerwise_decay", "lr_range_test", "name", "named_variables", "partition", "select", "summary"),
        "variable_infos",
    ]
    for name in optim.__all__:
        assert callable(getattr(optim, name)) or name == "FilterLike"


def test_every_public_function_has_an_example():
    for name in optim.__all__:
        item = getattr(optim, name)
        if name != "FilterLike" and not (isinstance(item, type) and issubclass(item, Exception)):
            assert ">>>" in item.__doc__, name


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module):
    names = {name: getattr(optim, name) for name in optim.__all__}
    found = importlib.import_module(module)
    result = doctest.testmod(found, extraglobs={"keras": keras, **names})
    assert result.failed == 0
