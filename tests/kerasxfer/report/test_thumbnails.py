import base64
import io

import numpy as np
import pytest
from kerasxfer_serving.images import ImagePolicy
from PIL import Image

from kerasxfer.report.thumbnails import data_uri, thumbnail


def save(path, colour, size=(40, 20), **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **kwargs)
    return path


def decoded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))


def test_a_thumbnail_keeps_the_shape_and_stays_small():
    image = decoded(data_uri(np.full((400, 800, 3), 200, "uint8"), side=100))
    assert image.size == (100, 50)
    assert image.getpixel((50, 25)) == pytest.approx((200, 200, 200), abs=2)


def test_a_thumbnail_stands_upright_as_the_model_saw_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = save(tmp_path / "a.jpg", "red", exif=exif)
    assert decoded(thumbnail(path, ImagePolicy())).size == (20, 40)
    assert decoded(thumbnail(path, ImagePolicy(exif="ignore"))).size == (40, 20)
