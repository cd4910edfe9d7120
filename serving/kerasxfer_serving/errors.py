"""Errors that a user can fix. Everything else is a bug and keeps its traceback."""


class KerasxferError(Exception):
    """Base of every error raised on purpose: the message names the thing, the rule and the remedy.

    Commands print it without a traceback and exit with status 1.
    """


class UsageError(KerasxferError, ValueError):
    """Arguments that contradict each other or do not exist. Commands exit with status 2."""


class ImageError(KerasxferError):
    """An image that cannot be read.

    Args:
        code: Short stable code, the `status` column of a prediction (`"truncated"`, `"not_an_image"`, …).
        message: What is wrong, for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return ImageError, (self.code, str(self))


class ModelError(KerasxferError):
    """A model file that is refused: malformed, unsafe, or missing something needed to run it."""


class DeviceError(KerasxferError):
    """A requested device that is not available."""


class WriteError(KerasxferError):
    """A file, folder or stream that cannot be written: the disk is full, the place read-only, the name impossible."""
