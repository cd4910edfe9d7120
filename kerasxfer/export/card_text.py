"""Markdown that cards are made of."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(value: str) -> str:
    """Text from names and folders, with nothing in it that Markdown or HTML would obey."""
    words = " ".join(value.split())
    return "".join(f"\\{character}" if character in "\\`*_[]|" else character for character in words).replace(
        "<", "&lt;"
    )
