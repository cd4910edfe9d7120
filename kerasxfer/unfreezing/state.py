"""Where a schedule stands, and how that travels inside the optimizer's checkpoint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass
class State:
    """Where a schedule stands; plain values only.

    Args:
        stage: The stage that is due, from 0.
        entered: The stage the model is in: before a transition the one before `stage`, before the first -1.
        epoch: The next epoch to run.
        epochs: How many epochs of the stage are over.
        best: The best value of the stage's monitor.
        wait: How many epochs ago that was.
        start: Each optimizer's iterations when the stage began.
        rate_stage: The stage that last set the learning rate, -1 for none.
        rate_start: Each optimizer's iterations when that stage began.
        compiled_rates: The rates the model was compiled with, for relative ones; `None` for one that is no number.
        late: For each variable of the schedule how many steps it missed; `None` while it has never trained.
        frozen: For each variable at which iteration it was frozen again; `None` if it is not.
        finished: Whether the last stage is over.
    """

    stage: int = 0
    entered: int = -1
    epoch: int = 0
    epochs: int = 0
    best: float | None = None
    wait: int = 0
    start: list[int] = field(default_factory=list)
    rate_stage: int = -1
    rate_start: list[int] = field(default_factory=list)
    compiled_rates: list[float | None] = field(default_factory=list)
    late: list[int | None] = field(default_factory=list)
    frozen: list[int | None] = field(default_factory=list)
    finished: bool = False

    def observe(self, value: float | None, rising: bool, min_delta: float) -> bool:
        """Takes in the monitor's value after an epoch.

        Returns:
            Whether it is the best of the stage.
        """
        better = value is not None and (
            (self.best is None and value == value)  # not NaN
            or (self.best is not None and (value - self.best if rising else self.best - value) > min_delta)
        )
        self.best, self.wait = (value, 0) if better else (self.best, self.wait + 1)
        return better

    def move_on(self, last: int) -> None:
        """Makes the next stage due, or ends the schedule after the `last`."""
        if self.stage == last:
            self.finished = True
        else:
            self.stage, self.epochs, self.best, self.wait = self.stage + 1, 0, None, 0


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds of a schedule: its state, the epoch's logs so far, and the best weights of the stage.

    And the states of the random generators of layers such as `Dropout`, which Keras leaves out of its checkpoints.
    """

    state: State
    logs: Mapping[str, float]
    best_weights: Sequence[np.ndarray]
    seeds: Sequence[np.ndarray]

    def pack(self) -> dict[str, np.ndarray]:
        """As arrays, which is what Keras's savers store."""
        text = json.dumps({"state": asdict(self.state), "logs": dict(self.logs)})
        best = {f"best_{i}": weights for i, weights in enumerate(self.best_weights)}
        seeds = {f"seed_{i}": seed for i, seed in enumerate(self.seeds)}
        return {"schedule": np.frombuffer(text.encode(), dtype="uint8"), **best, **seeds}

    @classmethod
    def unpack(cls, arrays: Mapping[str, np.ndarray]) -> "Saved":
        """From what `pack` gave."""
        values: dict[str, Any] = json.loads(bytes(arrays["schedule"]).decode())
        return cls(State(**values["state"]), values["logs"], _listed(arrays, "best"), _listed(arrays, "seed"))


def _listed(arrays: Mapping[str, np.ndarray], name: str) -> list[np.ndarray]:
    count = sum(key.startswith(f"{name}_") for key in arrays)
    return [arrays[f"{name}_{i}"] for i in range(count)]
