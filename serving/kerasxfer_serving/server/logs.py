"""The server's log: one line an event on stderr, as JSON for machines or as text for people."""

import logging
import sys
import time
from typing import Any

import msgspec

from kerasxfer_serving.server.middleware import ACCESS_LOG

_LOGGERS = ("kerasxfer_serving", "uvicorn.error")


class JsonFormatter(logging.Formatter):
    """A line of JSON: time, level, logger, message, and what the record brings in `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(event).decode()


class TextFormatter(logging.Formatter):
    """A line for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={_plain(value)}" for key, value in getattr(record, "fields", {}).items())
        line = f"{_time(record)} {record.levelname.lower()} {_plain(record.getMessage())} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logs(format: str, *, access: bool = True) -> None:
    """Send the server's log to stderr.

    Args:
        format: `"json"` or `"text"`.
        access: Whether there is a line for every request. Defaults to `True`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its other lines say what ours do
    ACCESS_LOG.setLevel(logging.INFO if access else logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"


def _plain(value: Any) -> str:
    """Text from elsewhere without what could move a terminal's cursor or begin a line."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(value))
