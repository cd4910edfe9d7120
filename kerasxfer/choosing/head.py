"""A logistic head, fitted on features and put into the model that they come from."""

import warnings

import keras
import numpy as np
from kerasxfer_serving.errors import KerasxferError
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from kerasxfer.layers.classifier_head import ClassifierHead


def fit_head(model: keras.Model, features: NDArray[np.float32], labels: NDArray[np.integer], strength: float) -> None:
    """Let a classifier answer as a logistic regression on its standardised features does.

    Args:
        model: A classifier of `kerasxfer.image_classifier` whose head is one dense layer on pooled features.
        features: The pooled features, `[images, channels]`.
        labels: Class of each image, `[images]`; or whether it is of each class, `[images, classes]`, for a head with a
            sigmoid for each.
        strength: scikit-learn's `C`.

    Raises:
        KerasxferError: The model has another head, or a class has no images.
    """
    head = model.layers[-1]
    if not isinstance(head, ClassifierHead) or head.hidden:
        raise KerasxferError("A logistic head fits a `ClassifierHead` without hidden layers only.")
    of_class = labels if labels.ndim > 1 else labels[:, np.newaxis] == np.arange(head.classes)
    if not np.all(of_class.any(axis=0) & ~of_class.all(axis=0)):
        raise KerasxferError("A logistic head needs images of every class, and images that are not of it.")
    scaler = StandardScaler()
    rows = scaler.fit_transform(features.astype(np.float64))
    if labels.ndim == 1:
        kernel, bias = _fitted(rows, labels, strength)
        if kernel.shape[1] == 1:  # of two classes, scikit-learn keeps the second one's column alone
            kernel, bias = np.hstack([np.zeros_like(kernel), kernel]), np.hstack([0.0, bias])
    else:
        heads = [_fitted(rows, column, strength) for column in labels.T]
        kernel, bias = np.hstack([kernel for kernel, _ in heads]), np.hstack([bias for _, bias in heads])
    kernel = kernel / scaler.scale_[:, np.newaxis]
    head.predictions.set_weights([kernel, bias - scaler.mean_ @ kernel])


def _fitted(
    rows: NDArray[np.float64], labels: NDArray[np.integer], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernel `[channels, columns]` and bias of a logistic regression."""
    logistic = LogisticRegression(C=strength)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an early stop is as good a head
        logistic.fit(rows, labels)
    return logistic.coef_.T, logistic.intercept_
