from kerasxfer.callbacks.progressive_unfreezing import ProgressiveUnfreezing
from kerasxfer.callbacks.set_epoch import SetEpoch
from kerasxfer.callbacks.smoothed_metrics_logger import SmoothedMetricsLogger

__all__ = ["ProgressiveUnfreezing", "SetEpoch", "SmoothedMetricsLogger"]
