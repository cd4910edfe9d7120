"""The engine behind `ProgressiveUnfreezing`, for loops other than `fit`."""

from kerasxfer.unfreezing.engine import Engine
from kerasxfer.unfreezing.resolve import ResolvedStage, resolve

__all__ = ["Engine", "ResolvedStage", "resolve"]
