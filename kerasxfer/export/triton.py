"""A model repository for NVIDIA Triton Inference Server."""

import shutil
from pathlib import Path

from kerasxfer_serving.model.model_file import ModelFile

from kerasxfer.export.errors import ExportError
from kerasxfer.export.proof import choose_samples

_CONFIG = """\
name: "{name}"
backend: "onnxruntime"
max_batch_size: {max_batch_size}
input [
  {{ name: "{input}" data_type: TYPE_UINT8 dims: [ {dims} ] }}
]
output [
  {outputs}
]
dynamic_batching {{ max_queue_delay_microseconds: 1000 }}
model_warmup [
  {{
    name: "image"
    batch_size: 1
    inputs {{
      key: "{input}"
      value {{ data_type: TYPE_UINT8 dims: [ {dims} ] input_data_file: "image" }}
    }}
  }}
]
"""


def write_triton(file: ModelFile, repository: str | Path, name: str | None = None, max_batch_size: int = 64) -> Path:
    """Write `<repository>/<name>` with `1/model.onnx`, `config.pbtxt`, `labels.txt` and an image to warm up with.

    Args:
        file: An exported model.
        repository: The model repository; other models in it stay.
        name: The model's name there. Defaults to the file's, without its suffix.
        max_batch_size: Largest batch that Triton gathers. Defaults to `64`.

    Returns:
        The folder of the model.

    Raises:
        ExportError: The file has no manifest.
    """
    manifest = file.manifest
    if manifest is None:
        raise ExportError(f"`{file.path}` has no manifest, so it has no labels: export it with kerasxfer.")
    folder = Path(repository) / (name or file.path.stem)
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "warmup").mkdir(exist_ok=True)
    shutil.copyfile(file.path, folder / "1" / "model.onnx")
    columns = int(file.outputs[0].shape[1] or len(manifest.class_names))
    # A single sigmoid column is the second class's.
    labels = manifest.class_names if columns > 1 else manifest.class_names[1:]
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    image = choose_samples(None, 1, manifest.image_size, manifest.policy).images[0]
    (folder / "warmup" / "image").write_bytes(image.tobytes())
    outputs = [
        f'{{ name: "{tensor.name}" data_type: TYPE_FP32 dims: [ {tensor.shape[1]} ]'
        + (' label_filename: "labels.txt" }' if tensor.name == manifest.output_name else " }")
        for tensor in file.outputs
    ]
    config = _CONFIG.format(
        name=folder.name,
        max_batch_size=max_batch_size,
        input=manifest.input_name,
        dims=", ".join(str(size) for size in (*manifest.image_size, 3)),
        outputs=",\n  ".join(outputs),
    )
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    return folder
