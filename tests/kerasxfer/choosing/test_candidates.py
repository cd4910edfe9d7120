import pytest
from kerasxfer_serving.errors import UsageError

from kerasxfer.choosing.candidates import Candidate, make_candidates


def test_every_backbone_is_tried_at_every_size():
    made = make_candidates(
        ["vgg16", "MobileNet"],
        [(150, 150), (100, 200)],
        weights={"mobilenet": "m.h5"},
        backbone_args={"MobileNet": {"alpha": 0.75}},
    )
    assert [each.name for each in made] == ["VGG16@150", "VGG16@100x200", "MobileNet@150", "MobileNet@100x200"]
    assert [each.weights for each in made] == ["imagenet", "imagenet", "m.h5", "m.h5"]
    assert made[3].options() == [
        *("--backbone", "MobileNet", "--image-size", "100x200"),
        *("--backbone-args", "alpha=0.75", "--weights", "m.h5"),
    ]


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["ResNet18"], {}, "must be the name of a `keras.applications` model"),
        (["VGG16", "vgg16"], {}, "must be different"),
        ([], {}, "at least one"),
        (["VGG16"], {"weights": {"MobileNet": "m.h5"}}, "Received: MobileNet"),
    ],
    ids=["unknown", "twice", "none", "stranger"],
)
def test_mistakes_are_named(names, given, message):
    with pytest.raises(UsageError, match=message):
        make_candidates(names, [(150, 150)], **given)


def test_a_preset_of_keras_hub_is_taken_by_its_name():
    assert Candidate("hub:resnet_50_imagenet", (224, 224)).name == "hub:resnet_50_imagenet@224"
