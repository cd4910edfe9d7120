"""The manifest: what a model file says about itself, as JSON in the ONNX metadata. `docs/manifest.md` is its schema.

Each field is checked, for a manifest comes with a file from anywhere.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

from kerasxfer_serving.errors import ModelError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.inputs.text import decode_text
from kerasxfer_serving.model.normalisation import NORMALISATIONS, Normalisation, find_preset
from kerasxfer_serving.model.onnx_file import read_onnx
from kerasxfer_serving.model.task import MULTI_LABEL, SEPARATOR, SINGLE_LABEL, TASKS, complete_thresholds

if TYPE_CHECKING:
    import onnx

METADATA_KEY = "kerasxfer.manifest"
FORMAT_VERSIONS = (1, 2)
_SINCE_VERSION_2 = ("task", "thresholds")
OUTPUTS = ("softmax", "sigmoid", "logits")
LAYOUTS = ("nhwc", "nchw")
PRECISIONS = ("fp32", "fp16", "int8")

# These bounds hold a hundred thousand class names and stop a bomb.
_MAX_CHARACTERS = 8 << 20
_MAX_CLASSES = 200_000
_MAX_SIDE = 16_384


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything needed to predict with a model file, and where the file comes from.

    Args:
        class_names: The classes, in the order of the output's columns.
        image_size: `(height, width)` that images are resized to.
        policy: `ImagePolicy`, how images are decoded and resized.
        output: `"softmax"` or `"sigmoid"`. A sigmoid output with one column and two classes is the probability of the
            second class. `"logits"`, only for a model from elsewhere, still needs a softmax, or a sigmoid if it is
            multi-label.
        task: `"single_label"` for mutually exclusive classes, or `"multi_label"`: one sigmoid column per class, for any
            number of labels per image. Defaults to `"single_label"`.
        thresholds: For a multi-label model, the probability from which each label is predicted. Defaults to 0.5 for
            each.
        layout: `"nhwc"`, or `"nchw"` for a model from elsewhere that takes channels first.
        normalisation: The normalisation that a model from elsewhere expects: a `Normalisation`, or the name of one of
            `NORMALISATIONS`. Defaults to `"none"`: the graph takes pixels in 0–255 and normalises them itself.
        input_name: Name of the graph's input, `[batch, height, width, 3]`.
        output_name: Name of the output with the probabilities, `[batch, columns]`.
        features_name: Name of the output with the pooled features, or `None`.
        precision: `"fp32"`, `"fp16"` or `"int8"`.
        opset: Version of the default ONNX operator set.
        backbone: Name of the `keras.applications` model, or `None`.
        preprocessing: Name of the normalisation that the export added, or `None` if the model had its own.
        source_sha256: SHA-256 of the Keras model that was exported.
        source_backend: The Keras backend whose outputs the file was checked against.
        versions: Packages that made the file, by name.
        golden: SHA-256 of known images after decoding and resizing, by case.
        parity: Results of the comparison with the source model.
        calibration: How an int8 model was calibrated.
        runtimes: Results and speed of the file in each runtime and precision that it was checked in.

    Attributes:
        format_version: Version of the schema: 2 for a multi-label model, which an older reader would misread, else 1.

    Example:

    ```python
    manifest = Manifest(class_names=("cats", "dogs"), image_size=(150, 150))
    assert Manifest.from_json(manifest.to_json()) == manifest
    ```
    """

    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    policy: ImagePolicy = field(default_factory=ImagePolicy)
    output: str = "softmax"
    task: str = SINGLE_LABEL
    thresholds: tuple[float, ...] = ()
    layout: str = "nhwc"
    normalisation: str | Normalisation = "none"
    input_name: str = "images"
    output_name: str = "probabilities"
    features_name: str | None = None
    precision: str = "fp32"
    opset: int | None = None
    backbone: str | None = None
    preprocessing: str | None = None
    source_sha256: str | None = None
    source_backend: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    golden: Mapping[str, str] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    runtimes: Sequence[Mapping[str, Any]] = ()
    format_version: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", _class_names(self.class_names))
        object.__setattr__(self, "image_size", _image_size(self.image_size))
        _require_one_of("output", self.output, OUTPUTS)
        _require_one_of("task", self.task, TASKS)
        object.__setattr__(self, "thresholds", self._thresholds())
        object.__setattr__(self, "format_version", 2 if self.is_multi_label else 1)
        _require_one_of("layout", self.layout, LAYOUTS)
        object.__setattr__(self, "normalisation", _normalisation(self.normalisation))
        _require_one_of("precision", self.precision, PRECISIONS)
        for name in ("input_name", "output_name"):
            _require_type(name, getattr(self, name), str)
        for name in ("features_name", "backbone", "preprocessing", "source_sha256", "source_backend"):
            _require_type(name, getattr(self, name), str | None)
        _require_type("opset", self.opset, int | None)
        for name in ("versions", "golden", "parity", "calibration"):
            _require_type(name, getattr(self, name), Mapping)
        _require_type("runtimes", self.runtimes, list | tuple)
        object.__setattr__(self, "runtimes", tuple(self.runtimes))
        for row in self.runtimes:
            _require_type("runtimes", row, Mapping)

    def passed_in(self, runtime: str, precision: str) -> bool:
        """Whether the file passed the gate in a runtime (`"openvino"`) and a precision of the CPU (`"bf16"`)."""
        return any(
            (row.get("runtime"), row.get("precision"), row.get("passed")) == (runtime, precision, True)
            for row in self.runtimes
        )

    @property
    def is_multi_label(self) -> bool:
        """Whether images have any number of labels."""
        return self.task == MULTI_LABEL

    def find_normalisation(self) -> Normalisation:
        """The normalisation that the model expects, as numbers."""
        named = self.normalisation
        return NORMALISATIONS[named] if isinstance(named, str) else named

    def to_json(self) -> str:
        """The manifest as one line of JSON with sorted keys: equal manifests give equal text."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        if self.format_version == 1:
            data = {name: value for name, value in data.items() if name not in _SINCE_VERSION_2}
        data["policy"] = self.policy.to_dict()
        if not self.runtimes:  # unknown to older readers
            del data["runtimes"]
        if isinstance(self.normalisation, Normalisation):
            data["normalisation"] = self.normalisation.to_dict()
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read a manifest from JSON.

        Raises:
            ModelError: The text is too long, is not JSON, or violates the schema.
        """
        if len(text) > _MAX_CHARACTERS:
            raise ModelError(f"A manifest has at most {_MAX_CHARACTERS:,} characters. Received: {len(text):,}")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"The manifest is not JSON: {error}") from None
        if not isinstance(data, dict):
            raise ModelError(f"A manifest is a JSON object. Received: {type(data).__name__}")
        return cls._from_dict(data)

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> "Manifest":
        # First the version: the fields of a newer manifest are unknown here for a reason worth telling.
        version = data.get("format_version", FORMAT_VERSIONS[-1])
        _require_one_of("format_version", version, FORMAT_VERSIONS)
        data = _expand_preset({name: value for name, value in data.items() if name != "format_version"})
        known = {item.name for item in fields(cls) if item.init and (version > 1 or item.name not in _SINCE_VERSION_2)}
        if unknown := sorted(set(data) - known):
            raise ModelError(f"The manifest has unknown fields. Received: {unknown}. Known: {sorted(known)}")
        if missing := sorted({"class_names", "image_size"} - set(data)):
            raise ModelError(f"The manifest lacks {missing}. Received: {sorted(data)}")
        try:
            policy = ImagePolicy.from_dict(data.get("policy", {}))
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"`policy` in the manifest is not an image policy: {error}") from None
        return cls(**{**data, "policy": policy})

    @classmethod
    def read(cls, path: str | Path) -> "Manifest":
        """Read the manifest of a model file, or a sidecar.

        Args:
            path: A `.json` file, or a model with its own manifest or one next to it in `<path>.json`.

        Raises:
            ModelError: There is no manifest, or it is malformed.
        """
        path = Path(path)
        if path.suffix == ".json":
            return cls.from_json(_read_sidecar(path))
        manifest = find_manifest(path, read_onnx(path).proto)
        if manifest is None:
            raise ModelError(
                f"`{path}` has no manifest: it was not written by kerasxfer. "
                f"Give class names and image size as arguments, or write them to `{path}.json` (see docs/manifest.md)."
            )
        return manifest

    def _thresholds(self) -> tuple[float, ...]:
        if not self.is_multi_label:
            if self.thresholds:
                raise ModelError(f"`thresholds` belong to the task {MULTI_LABEL!r}. Received: {self.thresholds!r:.200}")
            return ()
        if self.output == "softmax":
            raise ModelError(f"The task {MULTI_LABEL!r} needs one sigmoid per class. Received: output='softmax'")
        if parted := [name for name in self.class_names if SEPARATOR in name]:
            raise ModelError(
                f"Class names of a multi-label model must not contain {SEPARATOR!r}. Received: {parted!r:.200}"
            )
        return complete_thresholds(self.thresholds, self.class_names)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as plain data for JSON."""
        data: dict[str, Any] = json.loads(self.to_json())
        return data


def find_manifest(path: Path, proto: "onnx.ModelProto") -> Manifest | None:
    """The manifest in a model, or next to it in `<path>.json`; `None` if there is none.

    Args:
        path: Path of the model file.
        proto: Its `onnx.ModelProto`.

    Raises:
        ModelError: There are several, or it is malformed; the message names the file.
    """
    texts = [entry.value for entry in proto.metadata_props if entry.key == METADATA_KEY]
    sidecar = path.with_name(f"{path.name}.json")
    try:
        match texts:
            case [text]:
                return Manifest.from_json(text)
            case []:
                return Manifest.from_json(_read_sidecar(sidecar)) if sidecar.is_file() else None
    except ModelError as error:
        raise ModelError(f"`{path if texts else sidecar}`: {error}") from None
    raise ModelError(f"`{path}` has {len(texts)} manifests; a model file has one.")


def _read_sidecar(path: Path) -> str:
    try:
        if path.stat().st_size > 4 * _MAX_CHARACTERS:
            raise ModelError(f"A manifest has at most {_MAX_CHARACTERS:,} characters. Received: `{path}`")
        return decode_text(path.read_bytes())
    except (OSError, UnicodeError) as error:
        raise ModelError(f"`{path}` cannot be read: {error}") from error


def _class_names(names: object) -> tuple[str, ...]:
    """Class names: two or more, different, of Unicode text."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise ModelError(f"`class_names` is a list of non-empty strings. Received: {names!r:.200}")
    if not 1 < len(names) <= _MAX_CLASSES or len(set(names)) != len(names):
        raise ModelError(f"`class_names` has 2 to {_MAX_CLASSES:,} different names. Received: {names!r:.200}")
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raise ModelError(f"`class_names` are Unicode text, without half characters. Received: {names!a:.200}") from None
    return tuple(names)


def _image_size(size: object) -> tuple[int, int]:
    """`(height, width)`, both positive and not enormous."""
    match size:
        case [int(height), int(width)] if 0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE:
            return height, width
    raise ModelError(f"`image_size` is (height, width), each 1 to {_MAX_SIDE:,}. Received: {size!r:.200}")


def _require_one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Refuse a value that is none of those allowed."""
    if value not in allowed:
        remedy = " Update kerasxfer-serving." if name == "format_version" else ""
        raise ModelError(f"`{name}` in a manifest is one of {list(allowed)}. Received: {value!r:.200}.{remedy}")


def _require_type(name: str, value: object, kind: type | UnionType) -> None:
    """Refuse a value of another type."""
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = getattr(kind, "__name__", kind)
        raise ModelError(f"`{name}` in a manifest is of type {expected}. Received: {value!r:.200}")


def _normalisation(value: Any) -> str | Normalisation:
    if isinstance(value, Mapping):
        return Normalisation.from_dict(value)
    if not isinstance(value, Normalisation):
        _require_one_of("normalisation", value, tuple(NORMALISATIONS))
    return value  # type: ignore[no-any-return]


def _expand_preset(data: dict[str, Any]) -> dict[str, Any]:
    """Expand the `"preset"` of a sidecar; its other values take precedence."""
    if "preset" not in data:
        return data
    preset = find_preset(data["preset"])
    said = {name: value for name, value in data.items() if name != "preset"}
    policy = said.get("policy", {})
    if isinstance(policy, Mapping):
        policy = preset.policy.to_dict() | dict(policy)
    return {"normalisation": preset.normalisation, **said, "policy": policy}
