"""`docs/images.md` says what the code does."""

from pathlib import Path
from typing import get_args

import pytest
from kerasxfer_serving.image_io.decoding import ERROR_CODES
from kerasxfer_serving.image_io.resizing import Interpolation, Resize
from kerasxfer_serving.images import Exif

PAGE = (Path(__file__).parents[2] / "docs" / "images.md").read_text("utf-8")


@pytest.mark.parametrize("code", ERROR_CODES)
def test_every_code_is_explained(code):
    assert f"| `{code}` | {ERROR_CODES[code]} |" in PAGE


@pytest.mark.parametrize("value", [*get_args(Interpolation), *get_args(Resize), *get_args(Exif)])
def test_every_choice_is_explained(value):
    assert f"`{value}`" in PAGE
