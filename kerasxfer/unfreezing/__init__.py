"""The engine behind `ProgressiveUnfreezing`, for loops other than `fit`."""

from kerasxfer.unfreezing.engine import Engine
from kerasxfer.unfreezing.resolve import ResolvedStage, resolve
from kerasxfer.unfreezing.segment import Segment

__all__ = ["Engine", "ResolvedStage", "Segment", "resolve"]
