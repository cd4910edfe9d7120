"""What a run is made of: the options of `kerasxfer train`, checked."""

import dataclasses
from typing import Any

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.task import MULTI_LABEL, SINGLE_LABEL, TASKS

from kerasxfer.data.tables.columns import TableOptions

OF_BATCHES = frozenset({"erasing", "mixup", "cutmix"})
"""The arguments of `augment` that change whole batches, not one image at a time."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """What a run is made of.

    Args:
        data: Folder of class folders, or table of images and labels, to train on.
        validation: Folder or table to validate on, or `None`.
        validation_split: Fraction of `data` held out for validation where `validation` is `None`.
        test: Folder of class folders that the finished model is evaluated on, once; or `None`.
        backbone: Name in `keras.applications`, or `"DemoVGG"`.
        backbone_output: Name of the layer whose output is used instead of the backbone's own.
        backbone_args: Further arguments of the application, e.g. `{"alpha": 0.75}`.
        weights: `"imagenet"`, a weights file, or `None` for random ones.
        preprocess: Mode of `kerasxfer.layers.Preprocess`, or `None` for the backbone's own.
        image_size: `(height, width)` in pixels.
        policy: Fields of `kerasxfer_serving.ImagePolicy`.
        head: Pooling and hidden units, e.g. `"average"` or `"flatten-256"`.
        dropout: Fraction dropped before the output.
        activation: `"softmax"`, or `"sigmoid"` for one unit and two classes, and with several labels to an image.
        task: `"single_label"`, or `"multi_label"` for images with any number of labels.
        optimizer: Name in `keras.optimizers`.
        learning_rate: Learning rate of the head.
        epochs: Epochs of the head's training where `schedule` is empty, of the whole run otherwise.
        batch_size: Images in a batch.
        augment: Arguments of `kerasxfer.layers.Augmentation`, or `rand`, the strength of
            `kerasxfer.augmentation.RandAugment`; and `erasing`, `mixup` and `cutmix` of
            `kerasxfer.augmentation.BatchAugmentation`. Empty for none.
        copies: Augmented copies of each image to cache, which the epochs take turns with; 0 for images that are
            augmented anew in every epoch, without a cache.
        class_weight: `"balanced"` for classes that count the same in the loss, however many images they have; or
            `None`.
        sampling: `"balanced"` for as many images of each class in an epoch; or `None`.
        label_smoothing: Share of each target that is spread over all classes, from 0 to below 1.
        ema: Momentum of the moving average of the weights that is validated and kept in their place, such as 0.99; or
            `None`.
        dtype: `"float32"`, or `"mixed_bfloat16"` or `"mixed_float16"` for layers that compute in half precision.
        schedule: Stages of `kerasxfer.callbacks.ProgressiveUnfreezing` as plain dictionaries; empty for the head only.
        keep: `"best"` for the weights of the best epoch, by `monitor`, or `"last"` for those of the last one.
        monitor: Key of the epoch's logs that tells the best epoch, and whether patience runs out.
        patience: Epochs without improvement after which a stage ends, or the training of the head; `None` for all
            `epochs`.
        cache: Folder of the `BottleneckCache`, or `None` to run every layer in every epoch.
        seed: Seed of the weights, the split, the order and the augmentation.
        on_error: `"raise"` or `"skip"`: what to do about images that cannot be read.
        exclude: Table of decisions about images, of `kerasxfer audit`; or `None`.
        table: What is said about `data` and `validation` where they are tables; the pattern of groups counts for
            folders too.

    Raises:
        UsageError: A value is out of its range.
    """

    data: str
    validation: str | None = None
    validation_split: float | None = None
    test: str | None = None
    backbone: str = "VGG16"
    backbone_output: str | None = None
    backbone_args: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: str | None = "imagenet"
    preprocess: str | None = None
    image_size: tuple[int, int] = (150, 150)
    policy: dict[str, Any] = dataclasses.field(default_factory=lambda: ImagePolicy().to_dict())
    head: str = "average-256"
    dropout: float = 0.5
    activation: str = "softmax"
    task: str = SINGLE_LABEL
    optimizer: str = "adam"
    learning_rate: float = 3e-4
    epochs: int = 30
    batch_size: int = 32
    augment: dict[str, Any] = dataclasses.field(default_factory=dict)
    copies: int = 0
    class_weight: str | None = None
    sampling: str | None = None
    label_smoothing: float = 0.0
    ema: float | None = None
    dtype: str = "float32"
    schedule: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    keep: str = "best"
    monitor: str = "val_loss"
    patience: int | None = None
    cache: str | None = None
    seed: int = 0
    on_error: str = "raise"
    exclude: str | None = None
    table: TableOptions = dataclasses.field(default_factory=TableOptions)

    def __post_init__(self) -> None:
        if self.validation and self.validation_split:
            raise UsageError("`--validation` and `--validation-split` exclude each other: give only one.")
        choices_of = {
            "activation": ("softmax", "sigmoid"),
            "task": TASKS,
            "class_weight": (None, "balanced"),
            "sampling": (None, "balanced"),
            "dtype": ("float32", "mixed_bfloat16", "mixed_float16"),
            "keep": ("best", "last"),
            "on_error": ("raise", "skip"),
        }
        for name, choices in choices_of.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"`{name}` must be one of {choices}. Received: {name}={getattr(self, name)!r}")
        if self.task == MULTI_LABEL and self.activation != "sigmoid":
            raise UsageError(f"Multi-label models need `activation='sigmoid'`. Received: {self.activation!r}")
        for name, least in (("epochs", 1), ("batch_size", 1), ("copies", 0), ("patience", 1), ("seed", 0)):
            if getattr(self, name) is not None and not least <= getattr(self, name) < 2**32:
                raise UsageError(f"`{name}` must be from {least} to 2³² - 1. Received: {name}={getattr(self, name)}")
        if self.validation_split is not None and not 0 < self.validation_split < 1:
            raise UsageError(
                "`validation_split` must be a fraction between 0 and 1. "
                f"Received: validation_split={self.validation_split}"
            )
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"`{name}` must be from 0 to below 1. Received: {name}={getattr(self, name)}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise UsageError(f"`ema` must be above 0 and below 1. Received: ema={self.ema}")
        if self.class_weight and self.sampling:
            raise UsageError("`class_weight` and `sampling` both balance the classes: give only one.")
        if self.class_weight and self.mixes:
            raise UsageError(
                "`class_weight` weighs an image by its class, and `mixup` and `cutmix` make images of several: use "
                "`sampling='balanced'` with these."
            )
        self._check_copies()
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(f"`learning_rate` must be above 0. Received: learning_rate={self.learning_rate}")

    def _check_copies(self) -> None:
        if self.cache and self.augment and not self.copies:
            raise UsageError(
                "`--cache` keeps what the frozen layers make of an image, and `--augment` makes another image of it in "
                "every epoch. Give one of them, or a number of augmented copies to cache, such as `--copies 3`."
            )
        if self.copies and not (self.cache and self.augment):
            raise UsageError(
                "`--copies` is the number of augmented copies of each image to cache: it needs `--augment` and a cache."
            )
        of_batches = sorted(OF_BATCHES & self.augment.keys())
        if self.copies and of_batches:
            raise UsageError(
                f"`--copies` caches images that were augmented one at a time: leave {' and '.join(of_batches)}, which "
                "change whole batches, out of `--augment`."
            )

    @property
    def mixes(self) -> bool:
        """Whether images, and their targets, are mixed with each other."""
        return bool(self.augment.get("mixup") or self.augment.get("cutmix"))

    @property
    def soft_targets(self) -> bool:
        """Whether targets are shares of the classes instead of their numbers."""
        return self.activation == "softmax" and (self.mixes or self.label_smoothing > 0)
