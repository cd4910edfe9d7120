"""What the fields of a manifest may hold: each is checked, for a manifest comes with a file from anywhere."""

from types import UnionType

from kerasxfer_serving.errors import ModelError

# These bounds hold a hundred thousand class names and stop a bomb.
_MAX_CLASSES = 200_000
_MAX_SIDE = 16_384


def read_class_names(names: object) -> tuple[str, ...]:
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


def read_image_size(size: object) -> tuple[int, int]:
    """`(height, width)`, both positive and not enormous."""
    match size:
        case [int(height), int(width)] if 0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE:
            return height, width
    raise ModelError(f"`image_size` is (height, width), each 1 to {_MAX_SIDE:,}. Received: {size!r:.200}")


def require_one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Refuse a value that is none of those allowed."""
    if value not in allowed:
        remedy = " Update kerasxfer-serving." if name == "format_version" else ""
        raise ModelError(f"`{name}` in a manifest is one of {list(allowed)}. Received: {value!r:.200}.{remedy}")


def require_type(name: str, value: object, kind: type | UnionType) -> None:
    """Refuse a value of another type."""
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = getattr(kind, "__name__", kind)
        raise ModelError(f"`{name}` in a manifest is of type {expected}. Received: {value!r:.200}")
