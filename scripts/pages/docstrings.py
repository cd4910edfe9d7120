"""Docstrings as the house writes them, for Griffe: lines with `>>>` become a block of code."""

import re
from typing import Any

import griffe

_SESSION = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.DOTALL | re.MULTILINE)


class Sessions(griffe.Extension):
    """Puts fences around interactive sessions that a docstring shows without indentation."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change a docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = _SESSION.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
