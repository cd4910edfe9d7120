"""Predictions to look at: one image of many, each with what the model said of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasxfer_serving.files import atomic_file
from PIL import Image, ImageDraw, ImageFont

_RIGHT, _WRONG = "#0a6b3d", "#b3261e"
_CAPTION, _GAP, _TITLE = 20, 6, 34


@dataclass(frozen=True)
class Answer:
    """What a model said of one image.

    Args:
        path: The image.
        truth: The class it is of.
        label: The class the model named.
        probability: The probability the model gave to `label`.
    """

    path: Path
    truth: str
    label: str
    probability: float

    @property
    def right(self) -> bool:
        """Whether the model named the class that the image is of."""
        return self.label == self.truth

    @property
    def caption(self) -> str:
        """The answer in a few letters."""
        return f"{self.label} {self.probability:.0%}" if self.right else f"{self.label}, is {self.truth}"


def contact_sheet(
    answers: Sequence[Answer], path: str | Path, *, title: str = "", columns: int = 10, size: int = 112
) -> Path:
    """Draw a contact sheet of images with the answers below them, in the order given.

    Args:
        answers: What to show.
        path: File to write; its suffix names the format.
        title: Line above the images. Defaults to none.
        columns: Images in a row. Defaults to `10`.
        size: Width and height of an image on the sheet, in pixels. Defaults to `112`.

    Returns:
        `path` as a `Path`.
    """
    top = _TITLE if title else 0
    rows = -(-len(answers) // columns)
    width, height = columns * (size + _GAP) + _GAP, top + rows * (size + _CAPTION + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    canvas = ImageDraw.Draw(sheet)
    canvas.text((_GAP, 8), title, fill="black", font=ImageFont.load_default(17))
    for number, answer in enumerate(answers):
        x = _GAP + number % columns * (size + _GAP)
        y = top + _GAP + number // columns * (size + _CAPTION + _GAP)
        _draw_answer(sheet, canvas, answer, x, y, size)
    path = Path(path)
    with atomic_file(path) as file:
        sheet.save(file, Image.registered_extensions()[path.suffix.lower()])
    return path


def _draw_answer(sheet: Image.Image, canvas: ImageDraw.ImageDraw, answer: Answer, x: int, y: int, size: int) -> None:
    colour = _RIGHT if answer.right else _WRONG
    with Image.open(answer.path) as image:
        sheet.paste(image.convert("RGB").resize((size, size)), (x, y))
    if not answer.right:
        canvas.rectangle((x - 2, y - 2, x + size + 1, y + size + 1), outline=colour, width=3)
    canvas.text((x + 1, y + size + 2), answer.caption, fill=colour, font=ImageFont.load_default(12))
