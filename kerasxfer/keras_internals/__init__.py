"""Everything that kerasxfer uses of Keras and that Keras does not promise. Nothing else reaches behind `keras.*`.

`tests/kerasxfer/keras_internals/test_contract.py` fails on a Keras release that changes any of it; `contract.py` checks
the same in short where a user's Keras is newer than what was tested.
"""

from kerasxfer.keras_internals.contract import UnsupportedKerasError
from kerasxfer.keras_internals.fit import (
    Passes,
    callbacks_of_this_fit,
    declared_metrics,
    metric_direction,
    metrics_so_far,
)
from kerasxfer.keras_internals.models import (
    all_layers,
    graph_parents,
    graph_units,
    remake_functions,
    sublayers,
    synchronise,
)
from kerasxfer.keras_internals.optimizers import (
    Attachment,
    active_variables,
    attachment,
    build_on,
    built_on,
    clocks,
    compiled_rates,
    iterations,
    seed_averages,
    set_active_variables,
    slots,
    stepping,
)
from kerasxfer.keras_internals.step import StepSeam

__all__ = [
    "Attachment",
    "Passes",
    "StepSeam",
    "UnsupportedKerasError",
    "active_variables",
    "all_layers",
    "attachment",
    "build_on",
    "built_on",
    "callbacks_of_this_fit",
    "clocks",
    "compiled_rates",
    "declared_metrics",
    "graph_parents",
    "graph_units",
    "iterations",
    "metric_direction",
    "metrics_so_far",
    "remake_functions",
    "seed_averages",
    "set_active_variables",
    "slots",
    "stepping",
    "sublayers",
    "synchronise",
]
