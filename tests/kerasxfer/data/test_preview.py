import numpy as np
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.inputs.walk import LeftOut
from PIL import Image

from kerasxfer.data.opening import image_paths
from kerasxfer.data.preview import augmented_copies, preview_sheet, sample_images
from kerasxfer.layers import Augmentation


def save(path, colour, size=(40, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_samples_every_folder_alike_and_repeats(tmp_path):
    for name, count in (("a", 30), ("b", 2)):
        for i in range(count):
            save(tmp_path / name / f"{i}.png", "red")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    save(tmp_path / "@eaDir" / "thumbnail.png", "red")
    left_out = LeftOut()
    root, names = image_paths(tmp_path, left_out=left_out)
    paths = sample_images(names, 4, seed=1)
    assert root == tmp_path
    assert left_out.counts == {".txt": 1, "system folders": 1}
    assert [path.rpartition("/")[0] for path in paths] == ["a", "a", "b", "b"]
    assert paths == sample_images(names, 4, seed=1)
    assert paths != sample_images(names, 4, seed=2)
    assert len(sample_images(names, 100)) == 32


def test_augmented_rows_begin_with_the_original(tmp_path):
    good, bad = save(tmp_path / "a.png", (10, 200, 30)), tmp_path / "b.png"
    bad.write_bytes(b"no image")
    augmentation = Augmentation(brightness_range=(0.2, 0.6))
    rows = augmented_copies(tmp_path, [bad.name, good.name], augmentation, (8, 8), ImagePolicy(), copies=3, seed=0)
    ((path, (original, *copies)),) = rows
    assert path == good.name
    assert (original == (10, 200, 30)).all()
    assert len({copy.tobytes() for copy in copies}) == 3
    assert all(copy.dtype == np.uint8 and copy.max() < 200 for copy in copies)


def test_a_sheet_holds_every_image():
    rows = [("first " * 100, [np.full((50, 50, 3), 255 * i // 3, "uint8") for i in range(3)]), ("second", [])]
    sheet = preview_sheet(rows, ("original", "augmented"), cell=50)
    assert {0, 85, 170} <= set(np.asarray(sheet).reshape(-1))
    assert sheet.width == 3 * 58 - 8 + 40
