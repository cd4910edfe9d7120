from kerasxfer.keras_internals import begins_anew


class Passes:
    """Counts how often a data set was read as a whole.

    An epoch of Keras is no pass: with `steps_per_epoch` several make up one, and Keras also begins and ends an epoch to
    build a model on a single batch.
    """

    def __init__(self) -> None:
        self._served = 0

    def serve(self) -> None:
        """A batch is served."""
        self._served += 1

    def end_epoch(self, batches: int) -> bool:
        """To be called by the data set's `on_epoch_end`: returns whether a pass over that many batches is over."""
        given_up = begins_anew()
        over = self._served >= batches and not given_up
        if over or given_up:
            self._served = 0
        return over
