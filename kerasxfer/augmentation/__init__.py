"""Augmentation of images as they are read: RandAugment image by image; erasing, MixUp and CutMix in batches."""

from kerasxfer.augmentation.batches import BatchAugmentation
from kerasxfer.augmentation.rand_augment import RandAugment

__all__ = ["BatchAugmentation", "RandAugment"]
