"""Groups by depth beside the formulas of timm and BEiT, and which layers are one depth."""

import keras
import pytest

from gradloop import optim
from gradloop.optim import layerwise_decay, partition
from tests.optim.groups.models import sequential

L = keras.layers


class Block(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.norm = L.LayerNormalization()
        self.attention = L.Dense(4)
        self.mlp = keras.Sequential([L.Dense(8), L.Dense(4)])

    def call(self, x):
        return x + self.mlp(self.attention(self.norm(x)))


class Transformer(keras.Model):
    """Laid out like timm's ViT: tokens and positions, a patch embedding, blocks, norm, head."""

    def __init__(self, blocks):
        super().__init__()
        self.cls_token = self.add_weight(shape=(1, 1, 4), name="cls_token")
        self.pos_embed = self.add_weight(shape=(1, 5, 4), name="pos_embed")
        self.patch_embed = L.Dense(4)
        self.blocks = [Block() for _ in range(blocks)]
        self.norm = L.LayerNormalization()
        self.head = L.Dense(2)

    def call(self, x):
        x = self.patch_embed(x)
        token = keras.ops.broadcast_to(self.cls_token, (keras.ops.shape(x)[0], 1, 4))
        x = keras.ops.concatenate([token, x], axis=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def transformer(blocks):
    model = Transformer(blocks)
    model(keras.ops.ones((1, 4, 3)))
    return model


def scales(model, groups):
    """The scale of each trainable variable, by stable name."""
    plan = partition(model, groups)  # every variable in exactly one group, or an error
    return {name: plan.groups[group].lr_scale for name, group in plan.group_of.items()}


def beit_layer_id(name, num_max_layer):
    """BEiT, `get_num_layer_for_vit`, with our names."""
    if name in ("cls_token", "mask_token", "pos_embed"):
        return 0
    if name.startswith("patch_embed"):
        return 0
    if name.startswith("blocks"):
        return int(name.split("/")[1]) + 1
    return num_max_layer - 1


def test_a_transformer_has_beits_rates():
    decay, blocks = 0.65, 5
    model = transformer(blocks)
    # `LayerDecayValueAssigner(list(layer_decay ** (num_layers + 1 - i) for i in range(num_layers + 2)))`
    values = [decay ** (blocks + 1 - i) for i in range(blocks + 2)]
    filters = [
        optim.name("cls_token") | "pos_embed" | "patch_embed",
        *(f"blocks/{number}/*" for number in range(blocks)),
        optim.name("norm/*") & ~optim.name("blocks") | "head",
    ]
    found = scales(model, layerwise_decay(model, decay, blocks=filters))
    expected = {name: values[beit_layer_id(name, blocks + 2)] for name in found}
    assert found == pytest.approx(expected, rel=1e-12)
    assert len(found) == len(model.trainable_variables)


def test_a_transformer_has_timms_rates_without_being_told_its_blocks():
    decay, blocks = 0.75, 5
    model = transformer(blocks)

    def timm_layer_id(name):  # timm's ViT puts the norm before the head with the last block
        if name.startswith("norm"):
            return blocks
        return beit_layer_id(name, blocks + 2)

    # `param_groups_layer_decay`: layer_scales = [layer_decay ** (layer_max - i) for i in range(num_layers)]
    layer_max = blocks + 1
    found = scales(model, layerwise_decay(model, decay))
    expected = {name: decay ** (layer_max - timm_layer_id(name)) for name in found}
    assert found == pytest.approx(expected, rel=1e-12)


def test_groups_are_named_from_the_bottom_and_the_top_has_scale_one():
    groups = layerwise_decay(sequential(4), 0.5)
    assert list(groups) == ["depth_0", "depth_1", "depth_2", "depth_3"]
    assert [group.lr_scale for group in groups.values()] == [0.125, 0.25, 0.5, 1.0]
    assert all(group.learning_rate is None for group in groups.values())
    assert [repr(group.where) for group in groups.values()] == [f"depth(fc{n})" for n in range(4)]


def test_a_decay_of_one_is_one_rate():
    assert {group.lr_scale for group in layerwise_decay(sequential(), 1).values()} == {1.0}


def test_normalization_belongs_to_the_layer_before_it():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Normalization(mean=0.0, variance=1.0),
            L.Conv2D(2, 3, name="conv1"),
            L.BatchNormalization(name="bn1"),
            L.ReLU(),
            L.Conv2D(2, 3, name="conv2"),
            L.GroupNormalization(2, name="gn"),
            L.LayerNormalization(name="ln"),
            L.Flatten(),
            L.Dense(2, name="head"),
        ]
    )
    groups = layerwise_decay(model, 0.5)
    assert [repr(group.where) for group in groups.values()] == [
        "depth(conv1, bn1)",
        "depth(conv2, gn, ln)",
        "depth(head)",
    ]


def test_a_normalization_that_comes_first_is_a_depth():
    model = keras.Sequential([keras.Input((4,)), L.BatchNormalization(name="bn"), L.Dense(2, name="fc")])
    assert [repr(group.where) for group in layerwise_decay(model).values()] == ["depth(bn)", "depth(fc)"]


def test_nested_models_are_opened_in_place_and_blocks_that_are_layers_are_not():
    x = keras.Input((3,))
    base = keras.Model(x, L.Dense(4, name="two")(L.Dense(3, name="one")(x)), name="base")
    y = keras.Input((3,))
    block = Block()
    model = keras.Model(y, L.Dense(1, name="head")(block(base(y))))
    shown = [repr(group.where) for group in layerwise_decay(model).values()]
    assert shown == ["depth(base/one)", "depth(base/two)", "depth(block)", "depth(head)"]


class Scaled(keras.Model):
    """A model with a variable of its own, and a layer inside it or none."""

    def __init__(self, *layers):
        super().__init__()
        self.scale = self.add_weight(shape=(), name="scale")
        self.inside = list(layers)

    def call(self, x):
        for layer in self.inside:
            x = layer(x)
        return x * self.scale


def test_a_models_own_variables_go_with_its_first_layer():
    model = keras.Sequential([keras.Input((3,)), L.Dense(3, name="stem"), Scaled(L.Dense(3)), Scaled()])
    found = scales(model, layerwise_decay(model, 0.5))
    assert found == {
        **{"stem/kernel": 0.25, "stem/bias": 0.25},
        **{"scaled/scale": 0.5, "scaled/inside/0/kernel": 0.5, "scaled/inside/0/bias": 0.5},
        "scaled_1/scale": 1.0,
    }


def test_a_model_of_nothing_but_its_own_variables_is_one_depth():
    model = Scaled()
    model(keras.ops.ones((1, 2)))
    (group,) = layerwise_decay(model).values()
    assert repr(group.where) == "depth(scale)" and group.lr_scale == 1.0


def test_frozen_layers_have_no_depth():
    model = sequential(4)
    model.layers[0].trainable = False
    groups = layerwise_decay(model, 0.5)
    assert [group.lr_scale for group in groups.values()] == [0.25, 0.5, 1.0]
    assert repr(groups["depth_0"].where) == "depth(fc1)"
    model.trainable = False
    with pytest.raises(ValueError, match="has no trainable variables to put in groups"):
        layerwise_decay(model)


def test_a_shared_layer_has_the_depth_of_its_first_use():
    shared = L.Dense(3, name="shared")
    x = keras.Input((3,))
    model = keras.Model(x, L.Dense(1, name="head")(shared(L.Dense(3, name="middle")(shared(x)))))
    found = scales(model, layerwise_decay(model, 0.5))
    assert set(found) == {
        f"{layer}/{kind}" for layer in ("shared", "middle", "head") for kind in ("kernel", "bias")
    }


def test_blocks_of_a_keras_application():
    model = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=2, classifier_activation=None
    )
    filters = [
        optim.name("Conv1*") | "bn_Conv1*" | "expanded_conv_*",
        *(f"block_{number}_*" for number in range(1, 17)),
        optim.name("Conv_1*") | "predictions",
    ]
    groups = layerwise_decay(model, 0.9, blocks=filters)
    plan = partition(model, groups)
    assert len(plan.order) == len(model.trainable_variables)
    assert plan.groups[plan.group_of["block_3_project_BN/gamma"]].lr_scale == pytest.approx(0.9**14)
    assert plan.groups[plan.group_of["predictions/kernel"]].lr_scale == 1.0


def test_a_thousand_layers():
    class Deep(keras.Model):  # Keras' graph models end at Python's recursion limit
        def __init__(self):
            super().__init__()
            self.chain = [L.Dense(1, use_bias=False, kernel_initializer="zeros") for _ in range(1000)]
            for layer in self.chain:
                layer.build((None, 1))
            self.built = True

    model = Deep()
    groups = layerwise_decay(model, 0.99)
    assert len(groups) == 1000
    assert groups["depth_0"].lr_scale == pytest.approx(0.99**999)
    assert len(partition(model, groups).order) == 1000
