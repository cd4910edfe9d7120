"""Three learning rates for the last block of the backbone, each tried for a few epochs from cached features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras

from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.callbacks.progressive_unfreezing import ProgressiveUnfreezing
from kerasxfer.types import Data
from kerasxfer.unfreezing.groups import layer_groups
from kerasxfer.unfreezing.stages import Stage

RATES = (1e-5, 1e-4, 1e-3)
_EPOCHS = 3


@dataclass(frozen=True)
class LearningRateTrial:
    """What a learning rate made of a model whose head was trained before.

    Args:
        block: The block that was unfrozen.
        learning_rate: The rate; 0 for the model as it was, with a trained head on a frozen backbone.
        epochs: Number of epochs.
        loss: On the images held out.
        accuracy: On the images held out.
    """

    block: str
    learning_rate: float
    epochs: int
    loss: float
    accuracy: float


def try_learning_rates(
    model: keras.Model,
    training: Data,
    validation: Data,
    cache: BottleneckCache,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> list[LearningRateTrial]:
    """Train the last block at each of `RATES`, and compare with the model as it is.

    Args:
        model: A classifier with a trained head. Its weights are what they were afterwards.
        training: Images to train on.
        validation: Images that the head was not trained on.
        cache: Where the features in front of the block are kept: all rates train from them.
        say: Called with a line about each trial.

    Returns:
        The trials, the frozen backbone's first.
    """
    block = [block for block in layer_groups(model).blocks if block.depth == 1][-1].name
    loss = "binary_crossentropy" if model.layers[-1].activation == "sigmoid" else "sparse_categorical_crossentropy"
    head_only = [layer.trainable for layer in model.layers]
    before = model.get_weights()
    trials: list[LearningRateTrial] = []
    for rate in (0.0, *RATES):
        model.set_weights(before)
        # A new optimizer each time, without moments of the trial before.
        model.compile(keras.optimizers.Adam(rate or RATES[0]), loss, metrics=["accuracy"])
        if rate:
            stages = [Stage(block, epochs=_EPOCHS, learning_rate=rate)]
            unfreezing = ProgressiveUnfreezing(stages, verbose=0)
            cache.fit(model, training, epochs=_EPOCHS, verbose=0, shuffle=False, callbacks=[unfreezing])
        scores = cache.evaluate(model, validation, verbose=0, return_dict=True)
        assert isinstance(scores, dict)
        trial = LearningRateTrial(block, rate, _EPOCHS if rate else 0, scores["loss"], scores["accuracy"])
        what = f"{block} at {rate:g}" if rate else "frozen"
        say(f"{what}: loss {trial.loss:.4f}, accuracy {trial.accuracy:.4f}")
        trials.append(trial)
        for layer, trainable in zip(model.layers, head_only, strict=True):
            layer.trainable = trainable
    model.set_weights(before)
    return trials


def best_trial(trials: Sequence[LearningRateTrial]) -> LearningRateTrial | None:
    """The rate that lowered the loss the most; `None` where the frozen backbone was best, or nothing was tried."""
    best = min(trials, key=lambda trial: trial.loss, default=None)
    return best if best and best.learning_rate else None
