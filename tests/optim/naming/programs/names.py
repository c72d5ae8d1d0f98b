"""The names in models from files and in the same models made here, where Keras has counted other layers."""

import json
import sys

import keras

from gradloop import optim
from tests.optim.naming import test_stable_names as test

[keras.layers.Dense(1) for _ in range(3)]  # another count than in the test
models = [keras.models.load_model(path) for path in sys.argv[1:]]
models += [test.called(test.Everything(), 3), test.functional()]
json.dump([list(optim.named_variables(model)) for model in models], sys.stdout)
