"""The files of a `multipart/form-data` body that is in memory already."""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from kerasxfer_serving.server.errors import RequestError, TooLargeError


class _Parts:
    """Collects the parts of a form while it is parsed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._field = self._value = self._disposition = b""
        self._data: list[bytes] = []
        self.files: list[tuple[str, bytes]] = []

    def on_part_begin(self) -> None:
        if len(self.files) >= self._most:
            raise TooLargeError(f"A request has at most {self._most} images. Received: more parts.")
        self._disposition, self._data = b"", []

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def on_part_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"filename") or options.get(b"name") or f"[{len(self.files)}]".encode()
        self.files.append((name.decode("utf-8", "replace"), b"".join(self._data)))


_CALLBACKS = (
    "on_part_begin",
    "on_part_data",
    "on_part_end",
    "on_header_field",
    "on_header_value",
    "on_header_end",
)


def form_files(body: bytes, content_type: str, most: int) -> list[tuple[str, bytes]]:
    """Names and contents of the parts of a form, at most `most`.

    Raises:
        RequestError: The body is no such form.
        TooLargeError: It has more parts.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise RequestError("multipart/form-data needs a boundary in its Content-Type.")
    parts = _Parts(most)
    ended: list[bool] = []
    try:
        parser = MultipartParser(
            boundary,
            {name: getattr(parts, name) for name in _CALLBACKS} | {"on_end": lambda: ended.append(True)},  # type: ignore[arg-type]
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(f"The body is not multipart/form-data: {error}") from None
    if not ended:
        raise RequestError("The body is not multipart/form-data: it ends early.")
    return parts.files
