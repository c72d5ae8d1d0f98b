"""KernelDecay: which variables of Keras' layers, and of layers of one's own, decay."""

import keras
import numpy as np
import pytest

from gradloop import optim
from gradloop.optim import Group, GroupedOptimizer, KernelDecay, partition

L = keras.layers


class Patches(keras.layers.Layer):
    """As in vision transformers, with its variables made in every way that Keras allows."""

    def build(self, shape):
        self.weight = self.add_weight(shape=(shape[-1], 4), name="w")
        self.cls_token = self.add_weight(shape=(1, 1, 4), name="cls_token")
        self.pos_embed = self.add_weight(shape=(1, 5, 4), name="pos_embed")
        self.position = L.Embedding(5, 4)
        self.position.build(None)
        self.query_bias = self.add_weight(shape=(2, 2))  # named by Keras: `variable`
        self.left = self.add_weight(shape=(2, 2), name="bias")
        self.right = self.add_weight(shape=(2, 2), name="bias")
        self.relative_position_bias_table = keras.Variable(np.ones((3, 2), "float32"))
        for name in (
            "b",
            "g",
            "Bias",
            "cls",
            "pos_encoding",
            "rel_pos_h",
        ):  # as in papers and other libraries
            setattr(self, f"of_{name}", self.add_weight(shape=(2, 2), name=name))

    def call(self, x):
        return x


DECAYING = [
    (lambda: L.MultiHeadAttention(2, 4), (3, 8), {"kernel"}),
    (lambda: L.GroupQueryAttention(4, 4, 2), (3, 8), {"kernel"}),
    (lambda: L.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de"), (3, 8), {"kernel"}),
    (lambda: L.EinsumDense("ab,b->ab", 4), (4,), {"kernel"}),  # a kernel of one dimension
    (lambda: L.GRU(2), (3, 4), {"kernel", "recurrent_kernel"}),
    (lambda: L.ConvLSTM2D(2, 3), (2, 5, 5, 4), {"kernel", "recurrent_kernel"}),
    (lambda: L.SeparableConv2D(2, 3), (5, 5, 4), {"depthwise_kernel", "pointwise_kernel"}),
    (lambda: L.Embedding(5, 4), (3,), {"embeddings"}),
    (lambda: L.PReLU(), (5, 5, 4), set()),
    (lambda: L.LayerNormalization(axis=[1, 2]), (3, 4), set()),
    (lambda: L.RMSNormalization(axis=[1, 2]), (3, 4), set()),
    (lambda: L.GroupNormalization(2), (5, 5, 4), set()),
    (lambda: L.BatchNormalization(), (4,), set()),
    (lambda: L.SpectralNormalization(L.Dense(2)), (4,), {"kernel"}),
    (Patches, (5, 3), {"w", "embeddings"}),
]


@pytest.mark.parametrize(("make", "shape", "decaying"), DECAYING, ids=range(len(DECAYING)))
def test_what_decays(make, shape, decaying):
    layer, shape = make(), (None, *shape)
    layer.build(*[shape] * (2 if "Attention" in type(layer).__name__ else 1))
    decay = KernelDecay(0.1)
    trained = [info for info in optim.variable_infos(layer) if info.variable.trainable]
    assert {info.kind for info in trained if decay.of(info.variable, info.name)} == decaying


def test_lora_decays_as_the_kernel_would():
    dense = L.Dense(4)
    dense.build((None, 4))
    dense.enable_lora(2)
    (decayed,) = {KernelDecay(0.1).of(v) for v in dense.trainable_variables if "lora" in v.name}
    assert decayed == 0.1


@pytest.mark.parametrize("optimizer", ["sgd", "lion"])  # by a fused kernel, and by Keras
def test_a_step_without_gradients_shrinks_what_decays(optimizer):
    x = keras.Input((3, 8))
    h = L.GRU(2, name="gru", return_sequences=True, bias_initializer="ones")(x)
    h = L.MultiHeadAttention(2, 4, name="attention", bias_initializer="ones")(h, h)
    model = keras.Model(x, L.PReLU("ones", name="prelu")(h))
    plan = partition(model, {"all": Group("*", weight_decay=KernelDecay(0.5))})
    grouped = GroupedOptimizer(keras.optimizers.get({"class_name": optimizer, "config": {}}), plan)
    grouped.learning_rate = 0.1
    before = {name: v.numpy() for name, v in optim.named_variables(model).items() if v.trainable}
    grouped.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables])
    for name, variable in optim.named_variables(model).items():
        if variable.trainable:
            kept = 0.95 if name.endswith("kernel") else 1.0
            np.testing.assert_allclose(variable.numpy(), kept * before[name], rtol=1e-6, err_msg=name)
