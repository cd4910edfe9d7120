"""The shapes on the demo's images, as tables of parts in a square from -1 to 1 (y points down)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Patch:
    """One stroke or area of a shape.

    Args:
        points: Array of shape `(n, 2)`.
        width: Width of the stroke through `points`; an area bounded by them if `None`. Defaults to `None`.
        ink: `False` cuts the part out of what was drawn before. Defaults to `True`.
    """

    points: Points
    width: float | None = None
    ink: bool = True


def _arc(x: float, y: float, rx: float, ry: float | None = None, start: float = 0, stop: float = 360) -> Points:
    angles = np.radians(np.linspace(start, stop, 33))
    return np.stack([x + rx * np.cos(angles), y + (rx if ry is None else ry) * np.sin(angles)], axis=1)


def _polygon(*points: tuple[float, float]) -> Points:
    return np.array(points, dtype=np.float64)


def _star(tips: int, inner: float) -> Points:
    angles = np.arange(2 * tips) * np.pi / tips
    radii = np.where(np.arange(2 * tips) % 2, inner, 0.95)
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def _spiral() -> Points:
    angles = np.linspace(0, 5 * np.pi, 90)
    radii = 0.85 * angles / angles.max()
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 60)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 17, -(y + 2.5) / 17], axis=1)


SOURCE_SHAPES: dict[str, tuple[Patch, ...]] = {
    "arrow": (
        Patch(_polygon((-0.9, 0), (0.3, 0)), width=0.26),
        Patch(_polygon((0.15, -0.5), (0.95, 0), (0.15, 0.5))),
    ),
    "bolt": (Patch(_polygon((0.2, -0.95), (-0.55, 0.12), (-0.05, 0.12), (-0.25, 0.95), (0.55, -0.2), (0.05, -0.2))),),
    "crescent": (Patch(_arc(0, 0, 0.85)), Patch(_arc(0.36, 0, 0.68), ink=False)),
    "cross": (Patch(_polygon((-0.85, 0), (0.85, 0)), width=0.4), Patch(_polygon((0, -0.85), (0, 0.85)), width=0.4)),
    "disk": (Patch(_arc(0, 0, 0.8)),),
    "dumbbell": (
        Patch(_polygon((-0.6, 0), (0.6, 0)), width=0.2),
        Patch(_arc(-0.6, 0, 0.34)),
        Patch(_arc(0.6, 0, 0.34)),
    ),
    "fork": (
        *(Patch(_polygon((x, -0.85), (x, 0)), width=0.18) for x in (-0.45, 0, 0.45)),
        Patch(_polygon((-0.54, 0), (0.54, 0)), width=0.2),
        Patch(_polygon((0, 0), (0, 0.9)), width=0.2),
    ),
    "frame": (
        Patch(_polygon((-0.8, -0.65), (0.8, -0.65), (0.8, 0.65), (-0.8, 0.65))),
        Patch(_polygon((-0.5, -0.35), (0.5, -0.35), (0.5, 0.35), (-0.5, 0.35)), ink=False),
    ),
    "heart": (Patch(_heart()),),
    "hourglass": (Patch(_polygon((-0.65, -0.85), (0.65, -0.85), (-0.65, 0.85), (0.65, 0.85))),),
    "lollipop": (Patch(_arc(0, -0.45, 0.45)), Patch(_polygon((0, -0.2), (0, 0.95)), width=0.16)),
    "pacman": (Patch(np.concatenate([_arc(0, 0, 0.85, start=35, stop=325), [[0, 0]]])),),
    "ring": (Patch(_arc(0, 0, 0.85)), Patch(_arc(0, 0, 0.5), ink=False)),
    "spiral": (Patch(_spiral(), width=0.17),),
    "square": (Patch(_polygon((-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7))),),
    "stairs": (
        Patch(
            _polygon(
                (-0.8, 0.8),
                (-0.8, 0.3),
                (-0.27, 0.3),
                (-0.27, -0.25),
                (0.27, -0.25),
                (0.27, -0.8),
                (0.8, -0.8),
                (0.8, 0.8),
            )
        ),
    ),
    "star": (Patch(_star(5, 0.4)),),
    "triangle": (Patch(_polygon((0, -0.85), (0.8, 0.65), (-0.8, 0.65))),),
    "wave": (Patch(_polygon((-0.9, 0.35), (-0.45, -0.35), (0, 0.35), (0.45, -0.35), (0.9, 0.35)), width=0.22),),
    "wheel": (
        Patch(_arc(0, 0, 0.85)),
        Patch(_arc(0, 0, 0.62), ink=False),
        *(
            Patch(_polygon((-0.7 * x, -0.7 * y), (0.7 * x, 0.7 * y)), width=0.16)
            for x, y in ((1, 0), (0.5, 0.87), (0.5, -0.87))
        ),
    ),
}
"""What `DemoVGG` was trained on."""

TASK_SHAPES: dict[str, tuple[Patch, ...]] = {
    "fish": (
        Patch(_arc(0.2, 0, 0.68, 0.42)),
        Patch(_polygon((-0.35, 0), (-0.92, -0.5), (-0.75, 0), (-0.92, 0.5))),
        Patch(_arc(0.52, -0.1, 0.09), ink=False),
    ),
    "house": (
        Patch(_polygon((0.3, -0.9), (0.52, -0.9), (0.52, 0), (0.3, 0))),
        Patch(_polygon((-0.72, -0.1), (0.72, -0.1), (0.72, 0.85), (-0.72, 0.85))),
        Patch(_polygon((0, -0.9), (0.85, -0.08), (-0.85, -0.08))),
        Patch(_polygon((-0.42, 0.12), (-0.08, 0.12), (-0.08, 0.42), (-0.42, 0.42)), ink=False),
        Patch(_polygon((0.15, 0.2), (0.45, 0.2), (0.45, 0.85), (0.15, 0.85)), ink=False),
    ),
    "key": (
        Patch(_arc(-0.55, 0, 0.38)),
        Patch(_arc(-0.55, 0, 0.19), ink=False),
        Patch(_polygon((-0.2, 0), (0.95, 0)), width=0.18),
        Patch(_polygon((0.6, 0), (0.6, 0.38)), width=0.17),
        Patch(_polygon((0.87, 0), (0.87, 0.38)), width=0.17),
    ),
    "umbrella": (
        Patch(_arc(0, 0.05, 0.9, start=180, stop=360)),
        *(Patch(_arc(x, 0.05, 0.3, 0.16, start=180, stop=360), ink=False) for x in (-0.6, 0, 0.6)),
        Patch(_polygon((0, -0.95), (0, 0.7)), width=0.14),
        Patch(_arc(0.19, 0.7, 0.19, start=0, stop=180), width=0.14),
    ),
}
"""What the demo learns to tell apart; none of them is among `SOURCE_SHAPES`."""
