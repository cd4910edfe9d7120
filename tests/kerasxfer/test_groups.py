"""Blocks are found by the names of the papers and by the graph, never by automatic names."""

import keras
import pytest
from keras import layers

from kerasxfer import layer_groups

APPLICATIONS = {
    "VGG16": ["block1", "block2", "block3", "block4", "block5"],
    "MobileNet": ["stem", *(f"block_{i}" for i in range(1, 14))],
    "MobileNetV2": ["stem", "expanded_conv", *(f"block_{i}" for i in range(1, 17)), "Conv_1"],
    "MobileNetV3Small": ["stem", "expanded_conv", *(f"expanded_conv_{i}" for i in range(1, 11))],
    "InceptionV3": ["stem", *(f"mixed{i}" for i in range(11))],
    "Xception": [f"block{i}" for i in range(1, 15)],
    "ResNet50": ["stem", *(f"conv{c}_block{b}" for c, n in ((2, 3), (3, 4), (4, 6), (5, 3)) for b in range(1, n + 1))],
    "ResNet50V2": [
        "stem",
        *(f"conv{c}_block{b}" for c, n in ((2, 3), (3, 4), (4, 6), (5, 3)) for b in range(1, n + 1)),
    ],
    "InceptionResNetV2": [
        "stem",
        "mixed_5b",
        *(f"block35_{i}" for i in range(1, 11)),
        "mixed_6a",
        *(f"block17_{i}" for i in range(1, 21)),
        "mixed_7a",
        *(f"block8_{i}" for i in range(1, 11)),
        "conv_7b",
    ],
    "ConvNeXtTiny": [
        "stem",
        *(f"stage_0_block_{i}" for i in range(3)),
        *("downsampling_block_0", *(f"stage_1_block_{i}" for i in range(3))),
        *("downsampling_block_1", *(f"stage_2_block_{i}" for i in range(9))),
        *("downsampling_block_2", *(f"stage_3_block_{i}" for i in range(3))),
    ],
    "EfficientNetB0": [
        "stem",
        *(
            f"block{n}{'abcd'[i]}"
            for n, k in ((1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 1))
            for i in range(k)
        ),
        "top",
    ],
    "EfficientNetV2B0": [
        "stem",
        *(f"block{n}{'abcdefgh'[i]}" for n, k in ((1, 1), (2, 2), (3, 2), (4, 3), (5, 5), (6, 8)) for i in range(k)),
        "top",
    ],
    "DenseNet121": [
        "stem",
        *(f"conv2_block{i}" for i in range(1, 7)),
        *("pool2", *(f"conv3_block{i}" for i in range(1, 13))),
        *("pool3", *(f"conv4_block{i}" for i in range(1, 25))),
        *("pool4", *(f"conv5_block{i}" for i in range(1, 17))),
    ],
    "NASNetMobile": [
        *("stem", "cell_stem_1", "cell_stem_2", *(f"cell_{i}" for i in range(4))),
        *("cell_reduce_4", *(f"cell_{i}" for i in range(5, 9)), "cell_reduce_8", *(f"cell_{i}" for i in range(9, 13))),
    ],
}


def application(name):
    shape = (96, 96, 3) if name != "NASNetMobile" else (224, 224, 3)
    base = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=shape)
    features = layers.GlobalAveragePooling2D(name="pool")(base.output)
    return base, keras.Model(base.input, layers.Dense(2, name="predictions")(features))


def check(name, expected):
    base, model = application(name)
    groups = layer_groups(model)
    assert [block.name for block in groups.blocks] == expected
    assert [layer.name for layer in groups.head.layers] == ["pool", "predictions"]
    assert [block.depth for block in groups.blocks] == list(range(len(expected), 0, -1))
    held = [layer for block in groups.blocks for layer in block.layers]
    assert sorted(layer.name for layer in held) == sorted(layer.name for layer in base.layers)
    assert sum(block.parameters for block in groups.blocks) == base.count_params()
    outer = keras.Sequential([base, layers.GlobalAveragePooling2D(), layers.Dense(2, name="top_of_all")])
    nested = layer_groups(outer)
    assert [(block.name, block.layers) for block in nested.blocks] == [(b.name, b.layers) for b in groups.blocks]


USUAL = ("VGG16", "MobileNet", "Xception")
EACH = [pytest.param(name, marks=[] if name in USUAL else [pytest.mark.slow]) for name in APPLICATIONS]


@pytest.mark.parametrize("name", EACH)
def test_blocks_of_the_applications(name):
    if name == "NASNetMobile" and keras.config.backend() == "torch":
        pytest.skip("Keras has no NASNet for PyTorch")
    check(name, APPLICATIONS[name])


@pytest.mark.slow
def test_automatic_names_do_not_matter():
    """The second instance in a process has other automatic names, in other orders of the alphabet."""
    first, second = (application("InceptionV3")[0] for _ in range(2))
    assert {layer.name for layer in first.layers} != {layer.name for layer in second.layers}
    one, two = layer_groups(first), layer_groups(second)
    assert [[type(layer) for layer in block.layers] for block in one.blocks] == [
        [type(layer) for layer in block.layers] for block in two.blocks
    ]


@pytest.mark.slow
def test_the_well_known_cut_of_inception():
    base, _ = application("InceptionV3")
    blocks = {block.name: block for block in layer_groups(base).blocks}
    assert blocks["mixed9"].layers[0] is base.layers[249]


def test_a_shortcut_with_an_automatic_name_belongs_to_its_block():
    base, _ = application("Xception")
    layer = base.get_layer("block3_sepconv1")
    (block,) = [block for block in layer_groups(base).blocks if layer in block.layers]
    assert sum(isinstance(layer, layers.Conv2D) for layer in block.layers) == 1


def plain(*more):
    keras.utils.set_random_seed(0)
    stack = [layers.Input((16, 16, 3))]
    for width in (4, 8):
        stack += [
            layers.Conv2D(width, 3, padding="same"),
            layers.BatchNormalization(),
            layers.Conv2D(width, 3, padding="same"),
        ]
        stack += [layers.MaxPooling2D()]
    return keras.Sequential([*stack, *more])


def kinds(group):
    return [type(layer).__name__ for layer in group.layers if layer.weights]


@pytest.mark.parametrize("flat", [True, False])
def test_any_other_model_is_cut_by_resolution(flat):
    head = [layers.Flatten(), layers.Dense(4), layers.Dense(2)]
    model = plain(*head) if flat else keras.Sequential([plain(), *head])
    groups = layer_groups(model)
    assert [block.name for block in groups.blocks] == ["block1", "block2"]
    assert [kinds(block) for block in groups.blocks] == [["Conv2D", "BatchNormalization", "Conv2D"]] * 2
    assert kinds(groups.head) == ["Dense", "Dense"]


def test_dense_layers_are_a_block_each():
    model = keras.Sequential([layers.Input((4,)), *(layers.Dense(4) for _ in range(4))])
    groups = layer_groups(model)
    assert [kinds(group) for group in groups] == [["Dense"]] * 4
    assert groups.head.layers == (model.layers[-1],)


def test_parallel_branches_stay_together():
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.Add()([layers.Conv2D(4, 3, padding="same")(x), layers.Conv2D(4, 1)(x)])
    x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    groups = layer_groups(keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x))))
    assert [kinds(block) for block in groups.blocks] == [["Conv2D"] * 3, ["Conv2D"]]


def test_a_head_that_is_a_model():
    head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(4), layers.Dense(1)], name="head_model")
    augmentation = keras.Sequential([layers.RandomFlip()], name="augmentation")
    base = plain()
    model = keras.Sequential([layers.Input((16, 16, 3)), augmentation, base, head])
    groups = layer_groups(model)
    assert {block.backbone for block in groups.blocks} == {base.name}
    assert [layer.name for layer in groups.head.layers] == ["augmentation", "head_model"]


def test_a_backbone_two_models_deep():
    inner = plain()
    inputs = layers.Input((16, 16, 3))
    outer = keras.Model(inputs, inner(layers.Rescaling(1 / 255)(inputs)), name="with_preprocessing")
    model = keras.Sequential([outer, layers.Flatten(), layers.Dense(1)])
    groups = layer_groups(model)
    assert {block.backbone for block in groups.blocks} == {inner.name}
    assert "rescaling" in [layer.name for layer in groups.head.layers]


def test_a_subclassed_model_is_taken_in_the_order_of_its_layers():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.out = layers.Dense(4), layers.Dense(4), layers.Dense(1)

        def call(self, inputs):
            return self.out(self.two(self.one(inputs)))

    model = Model()
    with pytest.raises(ValueError, match="must be built"):
        layer_groups(model)
    model(keras.ops.ones((1, 3)))
    groups = layer_groups(model)
    assert [block.layers for block in groups.blocks] == [(model.one,), (model.two,)]
    assert groups.head.layers == (model.out,)


def test_the_groups_print_as_a_table():
    text = str(layer_groups(plain(layers.Flatten(), layers.Dense(2, name="predictions"))))
    assert [line.split()[0] for line in text.splitlines()] == ["group", "block1", "block2", "head"]
