"""Small images that a classifier can tell apart, drawn for each test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw_classes(root: Path, per_class: int = 12, size: int = 48, seed: int = 0) -> Path:
    """Write `per_class` noisy stripes of each direction under `root/horizontal` and `root/vertical`."""
    rng = np.random.default_rng(seed)
    for name in ("horizontal", "vertical"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            stripes = np.sin(np.arange(size) * rng.uniform(0.5, 0.9) + rng.uniform(0, 6)) * 90 + 128
            pixels = np.broadcast_to(stripes[:, None] if name == "horizontal" else stripes[None, :], (size, size))
            noisy = pixels[..., None] + rng.normal(0, 12, (size, size, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / name / f"{i:03}.png")
    return root


@pytest.fixture
def class_folders(tmp_path):
    """A folder of two class folders, twelve images each."""
    return draw_classes(tmp_path / "images")
