"""Layers of a classifier on raw 0–255 pixels."""

from kerasxfer.layers.augmentation import Augmentation as Augmentation
from kerasxfer.layers.classifier_head import ClassifierHead as ClassifierHead
from kerasxfer.layers.preprocess import Preprocess as Preprocess

__all__ = ["Augmentation", "ClassifierHead", "Preprocess"]
