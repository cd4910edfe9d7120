"""The demo as a function: the whole way from images to predictions, with nothing but the public API."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
from kerasxfer_serving import Predictor, benchmark
from kerasxfer_serving.files import format_bytes
from rich.console import Console
from rich.markup import escape

import kerasxfer
from kerasxfer import ImageFolder, Stage
from kerasxfer.callbacks import ProgressiveUnfreezing, SmoothedMetricsLogger
from kerasxfer.demo.contact_sheet import Answer, contact_sheet
from kerasxfer.demo.folder import DemoFolder
from kerasxfer.demo.images import TASK_CLASSES, draw_folder
from kerasxfer.demo.summary import VALIDATION_SPLIT, DemoResult, Task, Trained, leave_run_folder, write_summary
from kerasxfer.export.tf_process import require_converter
from kerasxfer.report import build_report, require_report
from kerasxfer.runs.run_folder import RunFolder

STAGES = (
    Stage(epochs=10, learning_rate=1e-2, name="head"),
    Stage("block5", learning_rate=5e-4),
)
EPOCHS = 25
LEAST_EPOCHS = 10  # from scratch, even where they take longer than the transfer
IMAGE_SIZES = {"DemoVGG": (48, 48)}  # what it was trained on; anything else gets the images as they are drawn
SHEET = 60


class StepLog:
    """Shows steps one after the other on a console.

    Args:
        console: A rich console. Defaults to `None`: nothing is shown.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[Callable[[str], None]]:
        """Run a step; what is given to the function it yields is printed when the step is done."""
        notes: list[str] = []
        start = time.perf_counter()
        with self.console.status(f"{escape(title)} …") if self.console else nullcontext():
            yield notes.append
        self.seconds[title] = time.perf_counter() - start
        if self.console:
            self.console.print(f"[green]✓[/] {escape(title)} [dim]{self.seconds[title]:.1f} s[/]", soft_wrap=True)
            for line in notes:
                self.console.print(f"  [cyan]{escape(line)}[/]", soft_wrap=True)


def run_demo(
    out: str | Path,
    backbone: str = "DemoVGG",
    *,
    seed: int = 0,
    per_class: int = 150,
    steps: StepLog | None = None,
    overwrite: bool = False,
) -> DemoResult:
    """Draw images, transfer a pretrained network to them, and carry it to ONNX Runtime; see what transfer bought.

    Args:
        out: Folder to fill.
        backbone: `"DemoVGG"`, or `"VGG16"` or `"VGG19"`, which need ImageNet weights. Defaults to `"DemoVGG"`.
        seed: Seed of the images, the weights and the order. Defaults to `0`.
        per_class: Images of each class to learn from; half as many are held out. Defaults to `150`.
        steps: Where progress is shown. Defaults to `None`, nowhere.
        overwrite: Discard an earlier demo in `out`. Defaults to `False`.

    Returns:
        A `DemoResult`: accuracies on the held-out images, seconds and rates.

    Raises:
        KerasxferError: A package of a later step is missing; nothing has been done.
    """
    require_converter()
    require_report()
    folder, steps = DemoFolder(Path(out)), steps or StepLog()
    keras.utils.set_random_seed(seed)
    model = kerasxfer.image_classifier(backbone, TASK_CLASSES, IMAGE_SIZES.get(backbone, (96, 96)), dropout=0.2)
    folder.prepare(overwrite)

    with steps(f"Draw images of {', '.join(TASK_CLASSES)}") as note:
        task = draw_task(folder.images, model.input_shape[1:3], per_class, seed)
        counts = {name: len(folder.paths) for name, folder in vars(task).items()}
        note("{train} to learn from, {validation} to validate, {held_out} held out".format(**counts))

    with steps(f"Transfer {backbone}: cache features, train a head, unfreeze block5") as note:
        transferred = transfer(model, task, folder.transfer, folder.cache)
        leave_run_folder(folder.transfer, transferred, task, backbone, seed)
        note(str(transferred))

    with steps("From scratch: the same network, images and time") as note:
        scratch = from_scratch(backbone, task, transferred.seconds, folder.scratch)
        leave_run_folder(folder.scratch, scratch, task, backbone, seed)
        accuracy_from_scratch = float(scratch.model.evaluate(task.held_out, return_dict=True, verbose=0)["accuracy"])
        note(str(scratch))

    with steps("Export to ONNX, compare its answers with Keras") as note:
        onnx = folder.transfer.exported
        kerasxfer.export_onnx(model, onnx, class_names=TASK_CLASSES, verbose=False)
        note(f"{onnx.name}, {format_bytes(onnx.stat().st_size)}")

    with steps("Predict the held-out images with ONNX Runtime") as note:
        answers = predict_held_out(onnx, task.held_out)
        accuracy = sum(answer.right for answer in answers) / len(answers)
        contact_sheet(worst_first(answers)[:SHEET], folder.predictions, title="Held-out images, mistakes first")
        note(f"accuracy {accuracy:.1%}; {sum(not answer.right for answer in answers)} of {len(answers)} wrong")

    with steps("Benchmark, briefly") as note:
        measured = benchmark(
            onnx, task.held_out.root, device="cpu", batch_sizes=(8,), scenarios=("offline",), duration=2
        )
        measured.save(folder.transfer.benchmark)
        rate = measured.summary["end_to_end"]
        note(f"{rate:,.0f} images a second from file to answer, on the CPU")

    with steps("Put both runs on one page"):
        build_report([folder.transfer.path, folder.scratch.path], folder.report, data=task.held_out.root)

    result = DemoResult(
        backbone, accuracy, accuracy_from_scratch, transferred.seconds, scratch.seconds, rate, steps.seconds
    )
    write_summary(folder, result)
    return result


def draw_task(folder: Path, image_size: tuple[int, int], per_class: int, seed: int) -> Task:
    """Draw the images and open them as three datasets."""
    learn_from = draw_folder(folder / "train", per_class=per_class, seed=2 * seed)
    held_out = draw_folder(folder / "held-out", per_class=per_class // 2, seed=2 * seed + 1)
    split: dict[str, Any] = {"validation_split": VALIDATION_SPLIT, "seed": seed}
    return Task(
        ImageFolder(learn_from, image_size, subset="training", **split),
        ImageFolder(learn_from, image_size, subset="validation", shuffle=False, **split),
        ImageFolder(held_out, image_size, shuffle=False),
    )


def transfer(model: keras.Model, task: Task, run: RunFolder, cache: Path) -> Trained:
    """Train the head, then block5, in one fit on cached features; the seconds count the making of the cache."""
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    start = time.perf_counter()
    history = kerasxfer.BottleneckCache(cache, verbose=0).fit(
        model,
        task.train,
        validation_data=task.validation,
        epochs=EPOCHS,
        callbacks=[SmoothedMetricsLogger(csv=run.history), ProgressiveUnfreezing(STAGES, verbose=0)],
        shuffle=False,  # an ImageFolder shuffles by its own seed
        verbose=0,
    )
    return Trained(model, history, STAGES, time.perf_counter() - start, pretrained=True)


def from_scratch(backbone: str, task: Task, seconds: float, run: RunFolder) -> Trained:
    """Train the same network from random weights, all of it, for as long at least."""
    model = kerasxfer.image_classifier(
        backbone, TASK_CLASSES, task.train.image_size, weights=None, trainable=True, dropout=0.2
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    callbacks = [SmoothedMetricsLogger(csv=run.history), StopAfter(seconds, LEAST_EPOCHS)]
    start = time.perf_counter()
    history = model.fit(
        task.train, validation_data=task.validation, epochs=1000, callbacks=callbacks, shuffle=False, verbose=0
    )
    stages = (Stage("all", batch_norm="train"),)
    return Trained(model, history, stages, time.perf_counter() - start, pretrained=False)


def predict_held_out(onnx: Path, folder: ImageFolder) -> list[Answer]:
    """Let ONNX Runtime answer to every image of a folder."""
    files = [Path(folder.root, path) for path in folder.paths]
    with Predictor(onnx, device="cpu") as predictor:
        predictions = predictor.predict(files)
    truths = [folder.class_names[label] for label in folder.labels]
    labels = [str(label) for label in predictions.labels]
    highest = np.max(predictions.probabilities, axis=1).tolist()
    return [Answer(*answer) for answer in zip(files, truths, labels, highest, strict=True)]


def worst_first(answers: list[Answer]) -> list[Answer]:
    """Mistakes first, the surest of them at the top; then what is right, the least certain first."""
    return sorted(
        answers, key=lambda answer: (answer.right, answer.probability if answer.right else -answer.probability)
    )


class StopAfter(keras.callbacks.Callback):
    """Stops at the end of the first epoch beyond a number of seconds and of epochs.

    Args:
        seconds: Time that training takes at least.
        epochs: Epochs that it takes at least, lest compilation eats up the time.
    """

    def __init__(self, seconds: float, epochs: int) -> None:
        super().__init__()
        self.seconds = seconds
        self.epochs = epochs

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self.end = time.perf_counter() + self.seconds

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the clock."""
        self.model.stop_training = time.perf_counter() > self.end and epoch + 1 >= self.epochs
