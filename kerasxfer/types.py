"""Names for what Keras takes and gives, which has no types of its own."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras

Tensor: TypeAlias = Any
"""A tensor of the backend, a symbolic one of Keras, or a NumPy array."""

Variable: TypeAlias = Any
"""A `keras.Variable`, or the value of one."""

Optimizer: TypeAlias = Any
"""A `keras.Optimizer`, or one that looks like it."""

Data: TypeAlias = Any
"""What `fit` takes: arrays or trees of them, a `PyDataset`, a `tf.data.Dataset`, a `DataLoader` or a generator."""

Scores: TypeAlias = float | list[float] | dict[str, float]
"""What `evaluate` gives."""

Callbacks: TypeAlias = keras.callbacks.CallbackList | Sequence[keras.callbacks.Callback] | None
"""What `fit` takes as `callbacks`."""
