import base64
import io

import numpy as np
import pytest
from kerasxfer_serving.images import ImagePolicy
from PIL import Image

from kerasxfer.layers import Augmentation
from kerasxfer.report.thumbnails import augmented, contact_sheet, data_uri, sample_pictures, thumbnail


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


def test_samples_every_folder_alike_and_repeats(tmp_path):
    for name, count in (("a", 30), ("b", 2)):
        for i in range(count):
            save(tmp_path / name / f"{i}.png", "red")
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    paths = sample_pictures(tmp_path, 4, seed=1)
    assert [path.parent.name for path in paths] == ["a", "a", "b", "b"]
    assert paths == sample_pictures(tmp_path, 4, seed=1)
    assert paths != sample_pictures(tmp_path, 4, seed=2)
    assert len(sample_pictures(tmp_path, 100)) == 32


def test_augmented_rows_begin_with_the_original(tmp_path):
    good, bad = save(tmp_path / "a.png", (10, 200, 30)), tmp_path / "b.png"
    bad.write_bytes(b"no picture")
    augmentation = Augmentation(brightness_range=(0.2, 0.6))
    rows = augmented([bad, good], augmentation, (8, 8), ImagePolicy(), copies=3, seed=0)
    ((path, (original, *copies)),) = rows
    assert path == good
    assert (original == (10, 200, 30)).all()
    assert len({copy.tobytes() for copy in copies}) == 3
    assert all(copy.dtype == np.uint8 and copy.max() < 200 for copy in copies)


def test_a_contact_sheet_holds_every_picture():
    rows = [("first " * 100, [np.full((50, 50, 3), 255 * i // 3, "uint8") for i in range(3)]), ("second", [])]
    sheet = contact_sheet(rows, ("original", "augmented"), cell=50)
    assert {0, 85, 170} <= set(np.asarray(sheet).reshape(-1))
    assert sheet.width == 3 * 58 - 8 + 40
