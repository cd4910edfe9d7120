from kerasxfer_serving.commands.choices import (
    Activation,
    Device,
    EngineName,
    Layout,
    Resize,
    TableFormat,
)
from kerasxfer_serving.commands.choices import EngineName as Engine

__all__ = ["Activation", "Device", "Engine", "EngineName", "Layout", "Resize", "TableFormat"]
