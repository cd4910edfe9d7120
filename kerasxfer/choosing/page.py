"""`choose.html`, `choose.json`, `choose.csv` and `pareto.svg`."""

import base64
import csv
import io
import json
from importlib.resources import files
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from kerasxfer_serving import __version__
from kerasxfer_serving.files import write_atomically, writing

from kerasxfer.choosing.advice import advice
from kerasxfer.choosing.figure import pareto_figure
from kerasxfer.choosing.results import Choice


def write_choice(choice: Choice, folder: Path, data: str) -> Path:
    """Write the page, the table as JSON and CSV, and the figure; return the page's path.

    Args:
        choice: What came out of `kerasxfer.choose`.
        folder: Where to write; it is made, and what is in it stays but for files of these names.
        data: What the images are called.
    """
    image = io.BytesIO()
    pareto_figure(choice).savefig(image, format="svg", facecolor="white", metadata={"Date": None})
    table = io.StringIO(newline="")
    rows = choice.rows()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(dict(row) for row in rows)
    contents: dict[str, str | bytes] = {
        "choose.json": json.dumps(choice.to_dict(), indent=2, ensure_ascii=False) + "\n",
        "choose.csv": table.getvalue(),
        "pareto.svg": image.getvalue(),
        "choose.html": render(choice, data, image.getvalue()),
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
    return folder / "choose.html"


def render(choice: Choice, data: str, figure: bytes) -> str:
    """The page, in the report's look."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("kerasxfer.choosing"), PackageLoader("kerasxfer.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    curve = choice.curve
    return environment.get_template("choose.html.j2").render(
        version=__version__,
        css=(files("kerasxfer.report") / "templates" / "page.css").read_text("utf-8"),
        data=data,
        choice=choice,
        advice=advice(choice),
        figure=f"data:image/svg+xml;base64,{base64.b64encode(figure).decode()}",
        curve=[]
        if curve is None
        else [
            {"Images": f"{images:,}", "Error": f"{error:.4f}"}
            for images, error in zip(curve.images, curve.errors, strict=True)
        ]
        + [{"Images": f"{2 * curve.images[-1]:,}, by the power law", "Error": f"{curve.at_twice:.4f}"}],
        trials=[
            {
                "Learning rate": f"{trial.learning_rate:g}" if trial.learning_rate else "frozen",
                "Loss": f"{trial.loss:.4f}",
                "Accuracy": f"{trial.accuracy:.4f}",
            }
            for trial in choice.trials
        ],
    )
