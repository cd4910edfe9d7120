"""Small tables as others write them, each about `photos/0.png` to `photos/5.png`: cats and dogs in turn."""

import json
from typing import NamedTuple

import narwhals
import pytest

COUNT = 6
KINDS = ["cat", "dog"] * 3


class LabelFile(NamedTuple):
    """A file, relative to the folder that holds `photos`, and the `root` that its paths begin in, if not its own."""

    name: str
    text: str
    encoding: str = "utf-8"
    root: str | None = None

    def write(self, folder):
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text, self.encoding)
        return path, self.root and folder / self.root


def csv(header, rows):
    return "\n".join([header, *rows]) + "\n"


KAGGLE = csv("image_id,label", [f"{i},{KINDS[i]}" for i in range(COUNT)])
SEMICOLONS = csv("Path;Class", [f"photos/{i}.png;{KINDS[i]}" for i in range(COUNT)])
TABS = csv("filepath\tcategory", [f"photos/{i}.png\t{KINDS[i]}" for i in range(COUNT)])
WINDOWS = csv("file,target", [f"photos\\{i}.png, {KINDS[i]}" for i in range(COUNT)])
HUGGING_FACE = "".join(
    json.dumps({"file_name": f"photos/{i}.png", "label": KINDS[i], "text": "a, b"}) + "\n" for i in range(COUNT)
)
HUGGING_FACE_CSV = csv("file_name,text,label", [f'photos/{i}.png,"a, b",{KINDS[i]}' for i in range(COUNT)])
ROBOFLOW = csv("filename, cat, dog", [f"{i}.png, {int(i % 2 == 0)}, {i % 2}" for i in range(COUNT)])
ISIC = csv("image,cat,dog", [f"{i},{1.0 - i % 2},{float(i % 2)}" for i in range(COUNT)])
LABEL_STUDIO = csv(
    "image,id,choice,annotator,annotation_id,created_at,updated_at,lead_time",
    [f"/data/local-files/?d=photos/{i}.png,{i + 7},{KINDS[i]},1,{i},2026-01-01,2026-01-01,2.5" for i in range(COUNT)],
)
LABEL_STUDIO_UPLOADED = LABEL_STUDIO.replace("/data/local-files/?d=photos/", "/data/upload/1/")

LABEL_FILES = {
    "kaggle-ids": LabelFile("train.csv", KAGGLE, root="photos"),
    "semicolons": LabelFile("labels.csv", SEMICOLONS, "utf-8-sig"),
    "utf-16": LabelFile("labels.csv", SEMICOLONS, "utf-16"),
    "excel": LabelFile("labels.csv", "sep=;\n" + SEMICOLONS),
    "tabs": LabelFile("labels.tsv", TABS),
    "backslashes": LabelFile("labels.csv", WINDOWS),
    "hugging-face-csv": LabelFile("metadata.csv", HUGGING_FACE_CSV),
    "hugging-face-jsonl": LabelFile("metadata.jsonl", HUGGING_FACE),
    "roboflow": LabelFile("photos/_classes.csv", ROBOFLOW),
    "one-hot": LabelFile("truth.csv", ISIC, root="photos"),
    "label-studio-local": LabelFile("project-1.csv", LABEL_STUDIO),
    "label-studio-uploaded": LabelFile("project-1.csv", LABEL_STUDIO_UPLOADED, root="photos"),
}

COLUMNS = {"path": [f"photos/{i}.png" for i in range(COUNT)], "label": KINDS}
FRAMES = ["dict", "pandas", "polars", "lazy", "pyarrow", "parquet"]


def frame(kind, folder):
    """`COLUMNS` as a frame of a library, or as a Parquet file in a folder."""
    if kind == "dict":
        return COLUMNS
    library = {"lazy": "polars", "parquet": "pyarrow"}.get(kind, kind)
    pytest.importorskip(library)
    made = narwhals.from_dict(COLUMNS, backend=library)
    if kind == "parquet":
        made.write_parquet(folder / "metadata.parquet")
        return folder / "metadata.parquet"
    return made.lazy().to_native() if kind == "lazy" else made.to_native()


def write(name, folder):
    """The table of a name in `LABEL_FILES` or `FRAMES`, and the `root` that its paths begin in, if not its own."""
    return LABEL_FILES[name].write(folder) if name in LABEL_FILES else (frame(name, folder), folder)
