"""`cross_validate`: how good a model is on unseen images, when there are too few to set some aside."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from kerasxfer_serving.errors import UsageError
from numpy.typing import NDArray

from kerasxfer.bottleneck.boundary import split_at_boundary
from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.callbacks.progressive_unfreezing import ProgressiveUnfreezing
from kerasxfer.choosing.answers import Answers
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.estimate import Estimate
from kerasxfer.models import image_classifier
from kerasxfer.probing.features import pooled_features
from kerasxfer.probing.probe import divided, out_of_fold
from kerasxfer.unfreezing.groups import layer_groups
from kerasxfer.unfreezing.stages import Stage


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """The result of `cross_validate`.

    Args:
        metric: `"accuracy"`, or `"mAP"` if images have several labels.
        score: Its value with the interval, `low` to `high`.
        probabilities: The out-of-fold probabilities of each image, `[images, classes]`.
        fold: The fold in which each image was held out, `[images]`.
    """

    metric: str
    score: Estimate
    probabilities: NDArray[np.floating]
    fold: NDArray[np.intp]

    def __str__(self) -> str:
        score = self.score
        measured = f"{self.metric} {score.value:.4f} ({score.low:.3f}–{score.high:.3f})"
        return f"{measured} on {len(self.fold):,} images in {len(np.unique(self.fold))} folds"


def cross_validate(
    model_or_backbone: str | keras.Model,
    data: ImageDataset,
    folds: int = 5,
    *,
    stages: Sequence[Stage] | None = None,
    cache: BottleneckCache | None = None,
    seed: int = 0,
) -> CrossValidation:
    """Measure a model on images that it was not trained on, each image once.

    The backbone is frozen: its features are computed once, or read from the cache, and a logistic head is fitted in
    each fold. A fine-tuned backbone has already seen these images; it is refused, unless `stages` say how to train it
    anew in each fold, starting from the model's current weights.

    The interval is Wilson's with 2.4 standard errors, wide enough for heads that share training images. From about
    5,000 images on, a single held-out set tells as much.

    Args:
        model_or_backbone: Name of a backbone, used with its ImageNet weights at the size of the images; or a model of
            `kerasxfer.image_classifier`, compiled if there are `stages`.
        data: An `ImageFolder` or `ImageTable`. Its groups are never split across folds.
        folds: Number of folds. Defaults to `5`.
        stages: Stages to train the model by in each fold, each with its `epochs`. Defaults to `None`, a logistic head.
        cache: Where to keep the features. Defaults to `None`: they are not kept.
        seed: Seed of the folds. Defaults to `0`.

    Returns:
        A `CrossValidation`.

    Raises:
        UsageError: The backbone is not frozen and there are no `stages`, or an argument is out of its range.

    Example:

    >>> found = kerasxfer.cross_validate("DemoVGG", train, folds=2)
    >>> found.score.low <= found.score.value <= found.score.high
    True
    """
    if isinstance(model_or_backbone, str):
        model = image_classifier(model_or_backbone, data.class_names, data.image_size)
    else:
        model = model_or_backbone
    with tempfile.TemporaryDirectory(prefix="kerasxfer-cross-validate-") as temporary:
        cache = cache or BottleneckCache(temporary, verbose=0)
        groups = data.rows.groups
        if stages is None:
            _refuse_trainable(model)
            features = pooled_features(model, data, cache)
            found = out_of_fold(features, data.labels, data.num_classes, groups=groups, folds=folds, seed=seed)
            fold, said = found.fold, found.probabilities
        else:
            fold = divided(data.labels, folds, groups, seed)
            said = _retrained(model, data, stages, fold, cache)
    answers = Answers(data.labels, said, groups)
    return CrossValidation(answers.metric, answers.score, said, fold)


def _refuse_trainable(model: keras.Model) -> None:
    trained = [
        block.name for block in layer_groups(model).blocks if any(layer.trainable_variables for layer in block.layers)
    ]
    if trained:
        raise UsageError(
            "`cross_validate` takes a frozen backbone, for one that was fine-tuned has seen the images it is asked "
            f"about. Received: a model that trains {', '.join(trained[-3:])}. Pass `stages` how to train it in each "
            "fold, or freeze it."
        )


def _retrained(
    model: keras.Model, data: ImageDataset, stages: Sequence[Stage], fold: NDArray[np.intp], cache: BottleneckCache
) -> NDArray[np.float64]:
    """Answers of models that were each trained on all folds but one. The model's weights come back in the end."""
    if not model.compiled:
        raise UsageError("`model` must be compiled to be trained by `stages`.")
    if not all(stage.epochs for stage in stages):
        raise UsageError("Each of the `stages` must have `epochs`: nothing is left to watch for `patience`.")
    weights, trainable = model.get_weights(), [layer.trainable for layer in model.layers]
    compiled = model.get_compile_config()
    probabilities = np.empty((len(fold), data.num_classes))
    for number in np.unique(fold):
        model.set_weights(weights)
        for layer, flag in zip(model.layers, trainable, strict=True):
            layer.trainable = flag
        model.compile_from_config(compiled)  # a new optimizer, without moments of the fold before
        training, held = data.take(fold != number), data.take(fold == number)
        epochs = sum(stage.epochs or 0 for stage in stages)
        unfreezing = ProgressiveUnfreezing(stages, verbose=0)
        cache.fit(model, training, epochs=epochs, verbose=0, shuffle=False, callbacks=[unfreezing])
        prefix, suffix = split_at_boundary(model)
        said = suffix.predict(cache.features(prefix, held), verbose=0)
        probabilities[fold == number] = said if said.shape[1] > 1 else np.hstack([1 - said, said])
    model.set_weights(weights)
    for layer, flag in zip(model.layers, trainable, strict=True):
        layer.trainable = flag
    return probabilities
