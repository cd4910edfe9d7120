"""How an optimizer steps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from kerasxfer.types import Optimizer, Variable


class StepSeam:
    """Where a stage changes how an optimizer steps: rate and warm-up, a factor per block, a clock per thaw.

    All backends send every step through these three methods, so a built-in optimizer keeps its class and its config.

    Args:
        optimizer: An optimizer that takes steps itself.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.rate: Callable[[Any, Any], Any] | None = None
        self.factors: dict[Any, float] = {}
        self.thawed: dict[Any, int] = {}
        self._factor = 1.0
        self._stock_rate = optimizer._get_current_learning_rate
        self._stock_update = optimizer._backend_update_step
        self._stock_decay = optimizer._apply_weight_decay
        object.__setattr__(optimizer, "_get_current_learning_rate", self._learning_rate)
        object.__setattr__(optimizer, "_backend_update_step", self._update)
        object.__setattr__(optimizer, "_apply_weight_decay", self._apply_weight_decay)

    def set(
        self,
        rate: Callable[[Any, Any], Any] | None,
        factors: Sequence[tuple[Variable, float]],
        thawed: Sequence[tuple[Variable, int]],
    ) -> None:
        """Sets what holds from the next trace on.

        Args:
            rate: From the optimizer's iterations and its own rate to the rate of the step.
            factors: Each variable's share of that.
            thawed: How many steps each variable came late.
        """
        period = self.optimizer.gradient_accumulation_steps or 1
        self.rate = rate
        self.factors = {self.optimizer._var_key(variable): factor for variable, factor in factors}
        self.thawed = {self.optimizer._var_key(variable): late // period * period for variable, late in thawed}

    @property
    def settings(self) -> tuple[Any, ...]:
        """What `set` has set, to set it again."""
        return self.rate, self.factors, self.thawed

    @settings.setter
    def settings(self, values: tuple[Any, ...]) -> None:
        self.rate, self.factors, self.thawed = values

    def _learning_rate(self) -> Any:
        rate = self._stock_rate()
        if self.rate is not None:
            rate = self.rate(self.optimizer._iterations, rate)
        return rate if self._factor == 1.0 else rate * self._factor

    def _apply_weight_decay(self, variables: Sequence[Variable]) -> None:
        if self.optimizer.weight_decay is None:
            return
        for (_, factor), positions in self._groups(variables):
            decayed = [variables[i] for i in positions if self.optimizer._use_weight_decay(variables[i])]
            if decayed:
                with self._at(factor):
                    self._stock_decay(decayed)

    def _update(self, grads: Sequence[Any], variables: Sequence[Variable], learning_rate: Any) -> None:
        groups = self._groups(variables)
        product = getattr(self.optimizer, "_u_product", None)
        before = None if product is None else keras.ops.multiply(product, 1)
        for number, ((late, factor), positions) in enumerate(groups):
            if number and product is not None:
                product.assign(before)  # Nadam moves its one product at every call
            rate = learning_rate if factor == 1.0 else learning_rate * factor
            with self._clock(late):
                self._stock_update([grads[i] for i in positions], [variables[i] for i in positions], rate)

    def _groups(self, variables: Sequence[Variable]) -> list[tuple[tuple[int, float], list[int]]]:
        """Positions of the variables that step alike, latest thawed first."""
        groups: dict[tuple[int, float], list[int]] = {}
        for i, variable in enumerate(variables):
            key = self.optimizer._var_key(variable)
            groups.setdefault((self.thawed.get(key, 0), self.factors.get(key, 1.0)), []).append(i)
        return sorted(groups.items(), key=lambda group: -group[0][0])

    @contextmanager
    def _at(self, factor: float) -> Iterator[None]:
        self._factor = factor
        try:
            yield
        finally:
            self._factor = 1.0

    @contextmanager
    def _clock(self, late: int) -> Iterator[None]:
        """Bias correction as of the variable's own first step: Adam's spike comes from counting everybody's."""
        if not late:
            yield
            return
        self.optimizer._iterations.assign_sub(late)
        try:
            yield
        finally:
            self.optimizer._iterations.assign_add(late)
