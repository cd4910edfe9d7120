"""What Keras means when it tells a data set that an epoch is over."""

import inspect


def begins_anew() -> bool:
    """Whether a data set's `on_epoch_end`, which calls this, is called because Keras is going to read from the start.

    Keras ends an epoch for two reasons: it has run, or its iterator is reset, after a model was built on a single batch
    and before an evaluation. The data set is told neither which, nor whether the next epoch goes on from here.
    """
    frame = inspect.currentframe()
    for _ in range(8):  # the data set's own frames, its adapter's, and who called that
        frame = frame.f_back if frame is not None else None
        if frame is not None and frame.f_globals.get("__name__", "").endswith(".epoch_iterator"):
            return frame.f_code.co_name == "reset"
    return False
