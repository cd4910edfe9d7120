"""Option values that several commands read alike."""

from typing import Any

from kerasxfer_serving.errors import UsageError


def image_size(text: str) -> tuple[int, int]:
    """Read `150` or `150x200` as (height, width) in pixels."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(
            f"`--image-size` is one side or HEIGHTxWIDTH in pixels, as in 150 or 150x200. Received: {text}"
        )
    return int(parts[0]), int(parts[-1])


def assignments(option: str, text: str | None) -> dict[str, Any]:
    """Read `rotation_range=40,horizontal_flip=true`; `standard` stands for the tutorials' augmentation."""
    import yaml

    values: dict[str, Any] = {}
    for item in (text or "").split(","):
        name, equals, value = item.strip().partition("=")
        if name == "standard" and not equals:
            from kerasxfer.layers.augmentation import STANDARD_AUGMENTATION

            values |= STANDARD_AUGMENTATION
        elif equals and name.isidentifier():
            values[name] = yaml.safe_load(value)
        elif item.strip():
            raise UsageError(f"`{option}` takes NAME=VALUE, separated by commas. Received: {item.strip()}")
    return values
