"""Layers of a classifier on raw 0–255 pixels."""

from kerasxfer.layers.classifier_head import ClassifierHead as ClassifierHead
from kerasxfer.layers.preprocess import Preprocess as Preprocess

__all__ = ["ClassifierHead", "Preprocess"]
