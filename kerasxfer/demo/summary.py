"""What the demo leaves behind for a reader: run folders and a summary."""

import dataclasses
import json
import sys
from collections.abc import Sequence

import keras
from kerasxfer_serving import __version__
from kerasxfer_serving.files import write_atomically

import kerasxfer
from kerasxfer import ImageFolder, Stage
from kerasxfer.demo.folder import DemoFolder
from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.run_folder import RunFolder, RunRecord, replacing

VALIDATION_SPLIT = 0.2
SHOWN = {
    "report.html": "both runs on one page: curves, confusion, mistakes",
    "predictions.png": "held-out images with the answers, mistakes first",
    "transfer/curves.png": "raw and smoothed curves, and where block5 was unfrozen",
    "transfer/model.onnx": "the model to serve: `kerasxfer-serving predict model.onnx FOLDER`",
    "summary.md": "this",
}


@dataclasses.dataclass(frozen=True)
class Task:
    """The images of the demo.

    Args:
        train: What both networks learn from.
        validation: What their curves show.
        held_out: What they are judged by, seen by neither.
    """

    train: ImageFolder
    validation: ImageFolder
    held_out: ImageFolder


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network after its training.

    Args:
        model: The network.
        history: Its curves.
        stages: What was trained, one after the other.
        seconds: How long it took, with everything that it took.
        pretrained: Whether the backbone's weights were.
    """

    model: keras.Model
    history: keras.callbacks.History
    stages: Sequence[Stage]
    seconds: float
    pretrained: bool

    def __str__(self) -> str:
        accuracy = self.history.history["val_accuracy"][-1]
        return f"{len(self.history.epoch)} epochs in {self.seconds:.1f} s, validation accuracy {accuracy:.1%}"


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """What came of a demo.

    Args:
        backbone: The pretrained network.
        accuracy: Share of the held-out images that the transferred network names right, through ONNX Runtime.
        accuracy_from_scratch: The same of the network from random weights.
        training_seconds: Time of the transfer, the making of the cache included.
        training_seconds_from_scratch: Time of the training from random weights.
        images_per_second: Rate of ONNX Runtime, from file to answer.
        seconds: Time of each step.
    """

    backbone: str
    accuracy: float
    accuracy_from_scratch: float
    training_seconds: float
    training_seconds_from_scratch: float
    images_per_second: float
    seconds: dict[str, float]


def leave_run_folder(folder: RunFolder, trained: Trained, task: Task, backbone: str, seed: int) -> None:
    """Complete a run folder as `kerasxfer train` leaves it, for `kerasxfer report` and `export` to read."""
    train = task.train
    with replacing(folder.model) as path:
        trained.model.save(path)
    kerasxfer.plot_history(folder.history, folder.curves, title=f"{backbone}, {folder.path.name}")
    config = TrainConfig(
        data=str(train.root),
        validation_split=VALIDATION_SPLIT,
        backbone=backbone,
        weights="imagenet" if trained.pretrained else None,
        image_size=train.image_size,
        policy=train.policy.to_dict(),
        head="average",
        dropout=0.2,
        learning_rate=1e-3,
        epochs=len(trained.history.epoch),
        batch_size=train.batch_size,
        schedule=[stage.to_dict() for stage in trained.stages],
        seed=seed,
    )
    record = RunRecord(
        config,
        class_names=tuple(train.class_names),
        images={"training": len(train.paths), "validation": len(task.validation.paths)},
        backend=keras.backend.backend(),
        versions={"kerasxfer": __version__, "keras": keras.__version__, "python": sys.version.split()[0]},
        seconds=trained.seconds,
    )
    record.write(folder.record)


def write_summary(folder: DemoFolder, result: DemoResult) -> None:
    """Write `summary.md` for a person and `summary.json` for a program."""
    write_atomically(folder.figures, json.dumps(dataclasses.asdict(result), indent=2) + "\n")
    write_atomically(folder.summary, summary(result))


def summary(result: DemoResult) -> str:
    """The result as a page of Markdown."""
    steps = "\n".join(f"| {title} | {seconds:.1f} |" for title, seconds in result.seconds.items())
    files = "\n".join(f"- `{name}`: {what}" for name, what in SHOWN.items())
    return f"""# What transfer bought

| the same network and images | seconds of training | accuracy on held-out images |
| --- | --- | --- |
| weights of {result.backbone}, head then block5 | {result.training_seconds:.0f} | **{result.accuracy:.1%}** |
| random weights, all of it | {result.training_seconds_from_scratch:.0f} | {result.accuracy_from_scratch:.1%} |

{about(result.backbone)} ONNX Runtime answered {result.images_per_second:,.0f} images a second from file to answer.

{files}

| step | seconds |
| --- | --- |
{steps}
"""


def about(backbone: str) -> str:
    """A sentence on where the backbone's weights come from."""
    if backbone == "DemoVGG":
        return (
            "DemoVGG is a small VGG trained on other drawn shapes than these, not on ImageNet; "
            "for photographs take a backbone of `keras.applications`."
        )
    return f"{backbone} comes with ImageNet weights; the images are drawings."
