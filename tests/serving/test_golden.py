import pytest
from kerasxfer_serving.golden import changed, golden_hashes
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.manifest import Manifest


def manifest(**golden):
    return Manifest(class_names=("a", "b"), image_size=(32, 40), golden=golden)


def test_every_path_through_the_decoder_is_there():
    assert sorted(golden_hashes((8, 8))) == [
        "alpha.png", "cmyk.jpg", "grey.jpg", "grey16.png", "palette.png", "progressive.jpg", "rgb.png", "turned.jpg",
    ]  # fmt: skip


PINNED = {
    "default": {
        "alpha.png": "6a0e195bc6121d79",
        "cmyk.jpg": "6bed157431dc37ab",
        "grey.jpg": "b3f27a45e7326ad2",
        "grey16.png": "1ae5b6b8a985dd60",
        "palette.png": "f0f26f216698258f",
        "progressive.jpg": "a1e379c3c03da1f9",
        "rgb.png": "6a0e195bc6121d79",
        "turned.jpg": "22afbd41590fb1d2",
    },
    "bicubic crop": {
        "alpha.png": "806bd2d886b7d600",
        "cmyk.jpg": "71ce62c94ed47c10",
        "grey.jpg": "78c629c38b2a273b",
        "grey16.png": "733f6b14d91c2187",
        "palette.png": "7bfff1835d2214c9",
        "progressive.jpg": "855b7ea9c6e0c212",
        "rgb.png": "806bd2d886b7d600",
        "turned.jpg": "92fd1ae6a19faf2a",
    },
    "nearest pad": {
        "alpha.png": "dcdc5879586b2f1d",
        "cmyk.jpg": "4900f0cb2f7da9b1",
        "grey.jpg": "943269f438eb2c0d",
        "grey16.png": "e73a617e986bfec1",
        "palette.png": "542e209abcc545bb",
        "progressive.jpg": "e090c5c5b6d138e6",
        "rgb.png": "dcdc5879586b2f1d",
        "turned.jpg": "16b6224321cdc018",
    },
    "draft": {
        "alpha.png": "6a0e195bc6121d79",
        "cmyk.jpg": "6bed157431dc37ab",
        "grey.jpg": "b3f27a45e7326ad2",
        "grey16.png": "1ae5b6b8a985dd60",
        "palette.png": "f0f26f216698258f",
        "progressive.jpg": "a1e379c3c03da1f9",
        "rgb.png": "6a0e195bc6121d79",
        "turned.jpg": "22afbd41590fb1d2",
    },
    "exif ignored": {
        "alpha.png": "6a0e195bc6121d79",
        "cmyk.jpg": "6bed157431dc37ab",
        "grey.jpg": "b3f27a45e7326ad2",
        "grey16.png": "1ae5b6b8a985dd60",
        "palette.png": "f0f26f216698258f",
        "progressive.jpg": "a1e379c3c03da1f9",
        "rgb.png": "6a0e195bc6121d79",
        "turned.jpg": "6e4e0fdb4dd91aef",
    },
}


@pytest.mark.parametrize("name", ["default", "bicubic crop", "nearest pad", "draft", "exif ignored"])
def test_pixels_are_pinned(name):
    """A change here changes what every trained model is served: it needs a new policy, not a new hash."""
    assert {image: value[:16] for image, value in golden_hashes((32, 40), POLICIES[name]).items()} == PINNED[name]


POLICIES = {
    "default": ImagePolicy(),
    "bicubic crop": ImagePolicy("bicubic", "crop"),
    "nearest pad": ImagePolicy("nearest", "pad"),
    "draft": ImagePolicy(draft=True),
    "exif ignored": ImagePolicy(exif="ignore"),
}


def test_changed_names_what_differs_here():
    here = golden_hashes((32, 40))
    assert changed(manifest(**here)) == []
    assert changed(manifest(**here | {"rgb.png": "0" * 64})) == ["rgb.png"]
    assert changed(manifest(**{"of a later version.png": "0" * 64})) == ["of a later version.png"]
    assert changed(manifest()) == []
