"""Draws the diagrams of the site: the two packages, where a cache cuts a network, and the stages of a schedule."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

FIGURES = Path(__file__).parents[2] / "docs/assets/figures"

FROZEN, TRAINED, CACHE, PLAIN = "#dbe4ff", "#ffd8a8", "#c3fae8", "#f1f3f5"
INK, QUIET = "#1c2333", "#4a5468"


class Drawing:
    """An SVG file on a light card, so that it reads on dark pages too."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'font-family="system-ui, sans-serif" font-size="14" fill="{INK}">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{QUIET}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="10" fill="#fff"/>',
        ]

    def box(self, x: float, y: float, width: float, height: float, text: str, fill: str = PLAIN) -> None:
        """A box with centred lines of text."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{QUIET}"/>'
        )
        lines = text.split("\n")
        for number, line in enumerate(lines):
            self.text(x + width / 2, y + height / 2 + 5 + 18 * (number - (len(lines) - 1) / 2), line, "middle")

    def text(
        self, x: float, y: float, text: str, anchor: str = "start", *, bold: bool = False, quiet: bool = False
    ) -> None:
        """One line of text."""
        style = (' font-weight="600"' if bold else "") + (f' fill="{QUIET}"' if quiet else "")
        self.parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}"{style}>{escape(text)}</text>')

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through points, with a tip at its end."""
        path = " ".join(f"{x},{y}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{QUIET}" stroke-width="1.5" marker-end="url(#tip)"/>'
        )

    def save(self, name: str) -> None:
        """Write the file."""
        FIGURES.mkdir(parents=True, exist_ok=True)
        (FIGURES / name).write_text("\n".join([*self.parts, "</svg>\n"]), encoding="utf-8")


def house() -> None:
    """The two packages, what goes through them, and the one file between them."""
    drawing = Drawing(860, 300, "kerasxfer trains and exports; kerasxfer-serving predicts, serves and measures")
    for x, width, title in (
        (16, 500, "kerasxfer: Keras 3 on TensorFlow, JAX or PyTorch"),
        (556, 288, "kerasxfer-serving: no framework"),
    ):
        drawing.parts.append(f'<rect x="{x}" y="16" width="{width}" height="268" rx="8" fill="none" stroke="{QUIET}"/>')
        drawing.text(x + 14, 40, title, bold=True)
    drawing.box(32, 60, 130, 52, "class folders\nImageFolder")
    drawing.box(198, 60, 140, 52, "frozen layers\nof a backbone", FROZEN)
    drawing.box(198, 148, 140, 52, "BottleneckCache\non disk", CACHE)
    drawing.box(374, 148, 126, 52, "trained layers\nand head", TRAINED)
    drawing.box(198, 224, 302, 44, "ProgressiveUnfreezing: stages in one fit")
    drawing.box(374, 60, 126, 52, "export_onnx\nwith its proof")
    drawing.arrow((162, 86), (196, 86))
    drawing.arrow((268, 112), (268, 146))
    drawing.arrow((338, 174), (372, 174))
    drawing.arrow((437, 148), (437, 114))
    drawing.arrow((437, 224), (437, 202))
    drawing.box(572, 60, 110, 52, "model.onnx\nmanifest inside", CACHE)
    drawing.arrow((500, 86), (570, 86))
    drawing.box(572, 148, 256, 34, "predict: one row per image")
    drawing.box(572, 192, 256, 34, "serve: HTTP and gRPC")
    drawing.box(572, 236, 256, 34, "benchmark: rates with their ceiling")
    drawing.arrow((627, 112), (627, 146))
    drawing.save("house.svg")


def _network(drawing: Drawing, y: float, trained: Iterable[str], blocks: tuple[str, ...]) -> None:
    for number, block in enumerate(blocks):
        drawing.box(130 + number * 104, y, 92, 40, block, TRAINED if block in set(trained) else FROZEN)
        if number:
            drawing.arrow((130 + number * 104 - 12, y + 20), (130 + number * 104 - 2, y + 20))


def stages() -> None:
    """A network in three stages of one fit."""
    blocks = ("block1", "block2", "block3", "block4", "block5", "head")
    drawing = Drawing(890, 250, "One network in the three stages of one fit")
    for number, (trained, rate) in enumerate(
        ((("head",), "rate 1e-3"), (("block5", "head"), "rate 1e-5"), (("block4", "block5", "head"), "rate 1e-5"))
    ):
        y = 40 + number * 62
        drawing.text(20, y + 18, f"stage {number + 1}", bold=True)
        drawing.text(20, y + 36, rate, quiet=True)
        _network(drawing, y, trained, blocks)
    drawing.arrow((790, 50), (790, 206))
    drawing.text(800, 120, "one fit,")
    drawing.text(800, 138, "one")
    drawing.text(800, 156, "optimizer")
    for x, fill, text in ((130, FROZEN, "frozen"), (230, TRAINED, "trained")):
        drawing.parts.append(f'<rect x="{x}" y="222" width="16" height="14" rx="3" fill="{fill}" stroke="{QUIET}"/>')
        drawing.text(x + 24, 234, text, quiet=True)
    drawing.save("stages.svg")


def boundary() -> None:
    """Where a cache cuts a network, stage by stage."""
    drawing = Drawing(
        860, 310, "One pass through the frozen layers fills the cache; every epoch starts at the boundary"
    )
    drawing.text(20, 40, "once: one pass over the images", bold=True)
    drawing.box(20, 56, 92, 40, "images")
    drawing.arrow((112, 76), (128, 76))
    _network(drawing, 56, (), ("block1", "block2", "block3", "block4", "block5"))
    drawing.arrow((540, 98), (540, 138), (300, 138), (300, 158))
    drawing.arrow((644, 98), (644, 158))
    drawing.box(190, 160, 220, 40, "features after block4", CACHE)
    drawing.box(534, 160, 220, 40, "features after block5", CACHE)
    drawing.text(20, 186, "on disk", bold=True)
    drawing.text(20, 262, "every epoch", bold=True)
    drawing.arrow((254, 200), (254, 234))
    drawing.arrow((644, 200), (644, 234))
    drawing.box(190, 236, 106, 40, "block5", TRAINED)
    drawing.arrow((296, 256), (302, 256))
    drawing.box(304, 236, 106, 40, "head", TRAINED)
    drawing.box(591, 236, 106, 40, "head", TRAINED)
    drawing.text(300, 298, "stage 2", "middle", quiet=True)
    drawing.text(644, 298, "stage 1", "middle", quiet=True)
    drawing.save("boundary.svg")


if __name__ == "__main__":
    house()
    stages()
    boundary()
