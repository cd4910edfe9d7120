"""Takes the screenshots of the site, on drawn images: the report, and the server's page with answers.

python scripts/figures/screenshots.py    # needs Chromium and the extras `report` and `serve`
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from kerasxfer.demo import draw_folder

FIGURES = Path(__file__).parents[2] / "docs/assets/figures"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def run(*command: object) -> None:
    """Run a command of ours to its end."""
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True)


def save(browser: Browser, url: str, name: str, files: list[Path]) -> None:
    """Photograph a page, after giving it files where there are some."""
    page = browser.new_context(viewport={"width": 1120, "height": 840}, color_scheme="light").new_page()
    page.goto(url)
    if files:
        page.set_input_files("#files", files)
        page.locator("#status", has_text="classified").wait_for()  # the page's policy lets nothing be evaluated
    page.wait_for_timeout(1500)
    image = Image.open(io.BytesIO(page.screenshot()))
    image.quantize(128).save(FIGURES / name, optimize=True)


def main() -> None:
    """Train, report, export and serve in a temporary folder, and photograph both pages."""
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as driver:
        root = Path(temporary)
        images, folder = draw_folder(root / "images", per_class=60, seed=1), root / "shapes"
        tune = ("--unfreeze", "block5", "--fine-tune-epochs", 4, "--fine-tune-learning-rate", 5e-4)
        network = ("--backbone", "DemoVGG", "--image-size", 48, "--epochs", 8, "--learning-rate", 1e-2)
        run("kerasxfer", "train", images, *network, *tune, "--validation-split", 0.2, "--out", folder)
        run("kerasxfer", "export", folder, "-o", folder / "model.onnx")
        run("kerasxfer", "report", folder, "-o", root / "report.html")
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        save(browser, (root / "report.html").as_uri(), "report.png", [])
        command = [sys.executable, "-m", "kerasxfer_serving", "serve", f"{folder / 'model.onnx'}=shapes", "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            try:
                url = next(line.split()[2] for line in server.stderr or () if line.startswith("Serving at"))
                save(browser, url, "serving.png", sorted(images.glob("*/*-00[01].png")))
            finally:
                server.terminate()
        browser.close()


if __name__ == "__main__":
    main()
