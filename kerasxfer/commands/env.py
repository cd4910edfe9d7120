from typing import Any

from kerasxfer_serving.commands.choices import ResultFormat
from kerasxfer_serving.commands.options import FormatOption

_PACKAGES = ("keras", "tensorflow", "jax", "jaxlib", "torch", "tf2onnx", "h5py", "ml-dtypes", "matplotlib")


def env(format: FormatOption = ResultFormat.text) -> None:
    """Show versions, the Keras backend and the devices that start, and how to fix what is broken."""
    from kerasxfer_serving.commands.env import show
    from kerasxfer_serving.diagnostics.doctor import diagnose
    from kerasxfer_serving.diagnostics.env import versions

    found = diagnose()
    show(found | {"versions": found["versions"] | versions(_PACKAGES), "keras": _keras()}, format)


def _keras() -> dict[str, Any]:
    """Start the backend and describe it; a broken one is reported in its own words."""
    try:
        import keras

        device = keras.ops.convert_to_tensor(1.0).device
    except Exception as error:  # whatever a broken installation raises belongs in the report
        return {"keras backend": f"does not start: {type(error).__name__}: {error}"}
    return {
        "keras backend": keras.config.backend(),
        "keras device": str(device),
        "keras data format": keras.config.image_data_format(),
        "keras dtype policy": keras.config.dtype_policy().name,
    }
