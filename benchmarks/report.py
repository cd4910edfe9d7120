"""How long the report of a run takes for 2,000 images, and how large the page is.

Draws the images, trains DemoVGG's head on a few of them for one epoch, and times `build_report` on all the others.

    KERAS_BACKEND=torch python benchmarks/report.py
"""

import argparse
import tempfile
import time
from pathlib import Path

from kerasxfer.demo import draw_folder
from kerasxfer.demo.images import TASK_CLASSES
from kerasxfer.report import build_report
from kerasxfer.runs.training import TrainConfig, train


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=2000)
    arguments.add_argument("--size", type=int, default=96, help="side of an image in pixels")
    options = arguments.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        classes = len(TASK_CLASSES)
        draw_folder(root / "train", per_class=20, size=options.size, seed=1)
        draw_folder(root / "validation", per_class=-(-options.images // classes), size=options.size, seed=2)
        size = (options.size, options.size)
        config = TrainConfig(
            str(root / "train"), backbone="DemoVGG", weights="demo", image_size=size, head="average", epochs=1
        )
        train(config, root / "run")
        page = root / "report.html"
        wall, cpu = time.perf_counter(), time.process_time()
        (result,) = build_report([root / "run"], page, data=root / "validation")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert result.predictions is not None
        count = len(result.predictions.paths)
        print(f"{count} images: {wall:.1f} s ({cpu:.1f} s of CPU), {page.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
