"""Everything that kerasxfer uses of Keras and that Keras does not promise. Nothing else reaches behind `keras.*`.

`tests/kerasxfer/keras_internals/test_contract.py` fails on a Keras release that changes any of it; `contract.py` checks
the same in short where a user's Keras is newer than what was tested.
"""

from kerasxfer.keras_internals.contract import UnsupportedKerasError
from kerasxfer.keras_internals.models import graph_parents, graph_units, remake_functions, sublayers, synchronise
from kerasxfer.keras_internals.optimizers import (
    Attachment,
    attachment,
    build_on,
    built_on,
    clocks,
    compiled_rates,
    iterations,
    look_at,
    looked_at,
    seed_averages,
    slots,
    stepping,
)
from kerasxfer.keras_internals.step import StepSeam

__all__ = [
    "Attachment",
    "StepSeam",
    "UnsupportedKerasError",
    "attachment",
    "build_on",
    "built_on",
    "clocks",
    "compiled_rates",
    "graph_parents",
    "graph_units",
    "iterations",
    "look_at",
    "looked_at",
    "remake_functions",
    "seed_averages",
    "slots",
    "stepping",
    "sublayers",
    "synchronise",
]
