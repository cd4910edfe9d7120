from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasxfer_serving.commands import choices, options, output
from kerasxfer_serving.files import format_bytes
from kerasxfer_serving.inputs.text import printable

if TYPE_CHECKING:
    from kerasxfer_serving.model.manifest import Manifest
    from kerasxfer_serving.model.model_file import ModelFile


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The .onnx file.")],
    sha256: options.Sha256Option = None,
    format: options.FormatOption = choices.ResultFormat.text,
) -> None:
    """Check a model file and print its manifest and graph statistics, without running it."""
    from kerasxfer_serving.golden import changed
    from kerasxfer_serving.model.model_file import load_model_file

    file = load_model_file(model, sha256=sha256)
    differing = changed(file.manifest) if file.manifest else []
    if format is choices.ResultFormat.json:
        output.print_json({**file.to_dict(), "golden_differs": differing})
        return
    _print(_about_file(file))
    if file.manifest is None:
        output.note("No manifest: not written by kerasxfer. `predict` needs flags or a sidecar; see docs/manifest.md.")
        return
    _print(_about_model(file.manifest))
    _print({f"parity, {name}": _figures(figures) for name, figures in file.manifest.parity.items()})
    if differing:
        output.note(
            f"This machine decodes some images differently from the one that exported the model: {', '.join(differing)}"
        )


def _about_file(file: "ModelFile") -> dict[str, Any]:
    statistics = file.statistics
    operators = (f"{count} {name}" for name, count in statistics["operators"].items())
    return {
        "file": file.path,
        "size": format_bytes(file.size),
        "sha256": file.sha256,
        "inputs": "; ".join(f"{tensor.name} {tensor.dtype} {_shape(tensor.shape)}" for tensor in file.inputs),
        "outputs": "; ".join(f"{tensor.name} {tensor.dtype} {_shape(tensor.shape)}" for tensor in file.outputs),
        "graph": f"{statistics['nodes']} nodes, {statistics['parameters']:,} parameters, opset {statistics['opset']}",
        "operators": ", ".join(operators),
        "producer": statistics["producer"],
    }


def _about_model(manifest: "Manifest") -> dict[str, Any]:
    names = list(manifest.class_names)
    return {
        "classes": f"{len(names)}: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}",
        "image size": f"{manifest.image_size[0]} × {manifest.image_size[1]} (height × width)",
        "decoding": _figures(manifest.policy.to_dict()),
        "normalisation": manifest.preprocessing or "the model's own",
        "output": manifest.output,
        "task": manifest.task,
        "thresholds": _figures(dict(zip(names[:10], manifest.thresholds, strict=False))),
        "precision": manifest.precision,
        "calibration": _figures(manifest.calibration),
        "backbone": manifest.backbone,
        "source": f"{manifest.source_backend}, sha256 {manifest.source_sha256}",
        "versions": _figures(manifest.versions),
    }


def _shape(shape: tuple[Any, ...]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _figures(values: Any) -> str:
    """Format as `name value, …`, nested dicts included."""
    if not isinstance(values, dict):
        return f"{values:.6g}" if isinstance(values, float) else str(values)
    return ", ".join(
        f"{name} ({_figures(value)})" if isinstance(value, dict) else f"{name} {_figures(value)}"
        for name, value in values.items()
    )


def _print(rows: dict[str, Any]) -> None:
    for name, value in rows.items():
        if value not in (None, ""):
            output.print_line(printable(f"{name:<14} {value}"))
