"""`kerasxfer.audit`: from images to lists of their problems."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kerasxfer_serving.errors import KerasxferError
from kerasxfer_serving.files import writing
from kerasxfer_serving.images import ImagePolicy
from numpy.typing import NDArray

from kerasxfer.auditing import duplicates, files, labels, outliers
from kerasxfer.auditing.clean_accuracy import clean_accuracies
from kerasxfer.auditing.findings import AuditedImages, Finding, named_path
from kerasxfer.auditing.inspection import ImageFacts, inspect
from kerasxfer.auditing.result import Audit
from kerasxfer.auditing.writing import write_audit
from kerasxfer.bottleneck.cache import BottleneckCache
from kerasxfer.data.image_dataset import ImageDataset
from kerasxfer.data.image_files import BadImage
from kerasxfer.data.opening import opener
from kerasxfer.models import image_classifier
from kerasxfer.probing.features import pooled_features_of_sets, standardised
from kerasxfer.probing.probe import FOLDS, OutOfFold, out_of_folds

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
_FEW = 2 * FOLDS
_ALIKE = "Most images are so much alike that near copies cannot be told from others: believe the equal ones only."


def audit(
    data: str | os.PathLike[str],
    validation: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | BottleneckCache | None = None,
    backbone: str = "VGG16",
    image_size: tuple[int, int] = (150, 150),
    weights: str | os.PathLike[str] | None = "imagenet",
    backbone_output: str | None = None,
    backbone_kwargs: Mapping[str, Any] | None = None,
    preprocess: str | None = None,
    policy: ImagePolicy | None = None,
    batch_size: int = 32,
    seed: int = 0,
    track: Track | None = None,
) -> Audit:
    """Find wrong labels, copies, outliers and bad files in a data set, with the features that training will use.

    Every image passes through the frozen network once, via the `BottleneckCache` that later training reads. Nothing is
    moved, renamed or relabelled: the audit lists, and a person decides.

    Args:
        data: Training images: class folders, or a table.
        validation: Validation images. Defaults to `None`.
        test: Test images. Defaults to `None`.
        output: Folder for `audit.html`, `audit.json` and `decisions.csv`. Defaults to `None`: nothing is written.
        cache: Folder of features, or a `BottleneckCache`. Defaults to `None`: `cache` in `output`.
        backbone: See `image_classifier`. Defaults to `"VGG16"`.
        image_size: `(height, width)` in pixels. Defaults to `(150, 150)`, as in `kerasxfer train`.
        weights: See `image_classifier`. Defaults to `"imagenet"`.
        backbone_output: See `image_classifier`. Defaults to `None`.
        backbone_kwargs: See `image_classifier`. Defaults to `None`.
        preprocess: See `image_classifier`. Defaults to `None`.
        policy: How a file becomes pixels. Defaults to `None`, the standard `ImagePolicy`.
        batch_size: Images per batch. Defaults to `32`.
        seed: Seed of the folds. Defaults to `0`.
        track: Wraps the loop over files to show progress: called with the items, a description and their number.
            Defaults to `None`, no progress.

    Returns:
        An `Audit`.

    Raises:
        KerasxferError: The sets have different classes, `cache` and `output` are both missing, or the packages for
            reports are not installed.

    Example:

    ```python
    found = kerasxfer.audit("pets", backbone="DemoVGG", image_size=(48, 48), output="audit")
    for finding in found.labels[:5]:
        print(finding.path, finding.reason)
    ```
    """
    if cache is None and output is None:
        raise KerasxferError("`audit` keeps features: name a `cache` folder, or an `output` folder to put it in.")
    if not isinstance(cache, BottleneckCache):
        cache = BottleneckCache(cache or Path(os.fspath(output or "")) / "cache")
    given = {"train": data, "validation": validation, "test": test}
    sets = {name: _open(path, image_size, batch_size, policy) for name, path in given.items() if path is not None}
    _refuse_other_classes(sets)
    facts, bad = _inspected(sets, track)
    # The head's two names do not matter: nothing but the frozen part is used.
    model = image_classifier(
        backbone,
        ("a", "b"),
        image_size,
        weights=weights,
        backbone_output=backbone_output,
        backbone_kwargs=backbone_kwargs,
        preprocess=preprocess,
    )
    images = AuditedImages(
        roots={name: _named_root(given[name], dataset) for name, dataset in sets.items()},
        paths=[path for dataset in sets.values() for path in dataset.paths],
        subsets=np.repeat(list(sets), [len(dataset.paths) for dataset in sets.values()]),
        labels=np.concatenate([dataset.labels for dataset in sets.values()]).astype(np.intp),
        class_names=next(iter(sets.values())).class_names,
        facts=facts,
        features=np.concatenate(pooled_features_of_sets(model, sets.values(), cache)),
    )
    strangers = [
        finding
        for name, dataset in sets.items()
        if dataset.left_out
        for finding in files.not_images(name, images.roots[name])
    ]
    result = examine(images, bad, strangers, seed)
    if output is not None:
        with writing(Path(output)):
            write_audit(result, Path(output))
    return result


def examine(
    images: AuditedImages,
    bad: Sequence[tuple[str, str, BadImage]] = (),
    strangers: Sequence[Finding] = (),
    seed: int = 0,
) -> Audit:
    """Make the lists of images whose features and facts are known; see `audit`.

    Args:
        images: The images.
        bad: Set, path and fault of those that cannot be read.
        strangers: What is no image.
        seed: Seed of the folds.
    """
    directions = standardised(images.features)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    pairs = duplicates.find_pairs(directions, images.facts)
    alike = outliers.likeness(directions, seed)
    del directions
    groups, alike_all = _groups(images, pairs)
    answers = _answers(images, groups, seed)
    accuracy = None if answers is None else float((answers.probabilities.argmax(axis=1) == images.labels).mean())
    return Audit(
        images={name: int((images.subsets == name).sum()) for name in images.roots},
        class_names=images.class_names,
        labels=[] if answers is None else labels.doubtful_labels(images, answers.probabilities),
        duplicates=duplicates.duplicates(images, pairs),
        outliers=[] if alike is None else outliers.outliers(images, alike),
        files=[*files.odd_files(images, bad), *strangers],
        accuracy=accuracy,
        clean=[] if answers is None else clean_accuracies(images, pairs, answers.strength),
        notes=[*([_ALIKE] if alike_all else []), *_limits(images, accuracy, alike)],
        roots=images.roots,
    )


def _open(
    path: str | os.PathLike[str], image_size: tuple[int, int], batch_size: int, policy: ImagePolicy | None
) -> ImageDataset:
    return opener(path)(image_size, batch_size, shuffle=False, policy=policy)


def _named_root(given: str | os.PathLike[str] | None, dataset: ImageDataset) -> Path:
    """The folder as it was named, which a table's rows are relative to."""
    path = Path(os.fspath(given or ""))
    return path if path.is_dir() else Path(dataset.root)


def _refuse_other_classes(sets: Mapping[str, ImageDataset]) -> None:
    first, *others = sets.values()
    for other in others:
        if other.class_names != first.class_names:
            raise KerasxferError(
                f"All sets must have the same classes. Received: {first.class_names} in '{first.root}' and "
                f"{other.class_names} in '{other.root}'"
            )


def _inspected(
    sets: Mapping[str, ImageDataset], track: Track | None
) -> tuple[list[ImageFacts], list[tuple[str, str, BadImage]]]:
    """The facts of the images that can be read, and what is wrong with the others, which the sets leave out."""
    facts: list[ImageFacts] = []
    bad: list[tuple[str, str, BadImage]] = []
    for name, dataset in sets.items():
        looks: Iterable[ImageFacts | BadImage] = inspect(dataset.root, dataset.paths, dataset.threads)
        if track is not None:
            looks = track(looks, f"Reading {name}", len(dataset.paths))
        readable = []
        for look in looks:
            readable.append(isinstance(look, ImageFacts))
            if isinstance(look, ImageFacts):
                facts.append(look)
            else:
                bad.append((name, named_path(Path(dataset.root), look.path), look))
        dataset.keep(np.array(readable))
        if not dataset.paths:
            raise KerasxferError(f"No image in '{dataset.root}' can be read; the last error: {bad[-1][2]}.")
    return facts, bad


def _groups(images: AuditedImages, pairs: duplicates.Pairs) -> tuple[NDArray[np.intp], bool]:
    """What belongs together, and whether near copies had to be left out of it because almost all images are some."""
    groups = duplicates.clusters(len(images.labels), pairs, pairs.copies)
    if len(np.unique(groups)) >= len(groups) / 2:
        return groups, False
    return duplicates.clusters(len(images.labels), pairs, pairs.equal), True


def _answers(images: AuditedImages, groups: NDArray[np.intp], seed: int) -> OutOfFold | None:
    """What heads say of images whose copies they have not seen either."""
    if len(np.unique(images.labels)) < 2 or len(np.unique(groups)) < _FEW:
        return None
    return out_of_folds(images.features, images.labels, len(images.class_names), groups=groups, seed=seed)


def _limits(images: AuditedImages, accuracy: float | None, alike: NDArray[np.float32] | None) -> list[str]:
    notes = []
    if accuracy is None:
        notes.append("Labels are not looked at: that needs two classes and ten images.")
    elif accuracy < labels.UNSURE:
        notes.append(
            f"A linear head on these features is right on {accuracy:.0%} of the images only: most doubtful labels are "
            "images that it cannot tell apart. Another backbone or a larger image size may do better."
        )
    elif accuracy < labels.SURE:
        notes.append(
            f"A linear head on these features is right on {accuracy:.0%} of the images: too few to call a label likely "
            f"wrong, for which {labels.SURE:.0%} are needed. The list is a ranking, no more."
        )
    if alike is None:
        notes.append(f"Outliers are not looked for: that needs {2 * outliers.NEIGHBOURS[1]} images.")
    return notes
