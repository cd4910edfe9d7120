from kerasxfer.callbacks.set_epoch import SetEpoch
from kerasxfer.callbacks.smoothed_metrics_logger import SmoothedMetricsLogger

__all__ = ["SetEpoch", "SmoothedMetricsLogger"]
