"""A model with every kind of place that a filter can point at."""

import keras
import numpy as np
import pytest

L = keras.layers


class Net(keras.Model):
    """LeNet-like, with a batch normalization and a recurrent end."""

    def __init__(self):
        super().__init__()
        self.conv1 = L.Conv2D(2, 3)
        self.norm = L.BatchNormalization()
        self.pool = L.MaxPooling2D()
        self.conv2 = L.DepthwiseConv2D(3)
        self.rows = L.Reshape((-1, 2))
        self.recurrent = L.Bidirectional(L.LSTM(2))
        self.head = keras.Sequential([L.Dense(3, name="fc1"), L.Dense(2, name="fc2")])
        self.softmax = L.Softmax()

    def call(self, x):
        x = self.conv2(self.pool(self.norm(self.conv1(x))))
        return self.softmax(self.head(self.recurrent(self.rows(x))))


@pytest.fixture(scope="module")
def net():
    model = Net()
    model(np.zeros((1, 12, 12, 1), "float32"))
    return model
