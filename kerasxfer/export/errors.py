"""What goes wrong in an export."""

from kerasxfer_serving.errors import KerasxferError, UsageError


class ExportError(KerasxferError):
    """A model that cannot be exported, or a file that does not give the model's answers. No file is left behind."""


class ExportArgumentError(UsageError, ValueError):
    """An argument of the export that is out of its range."""
