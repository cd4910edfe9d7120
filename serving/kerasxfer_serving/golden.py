"""Golden images: known files whose pixels, after decoding and resizing, are pinned by hash.

A manifest carries the hashes of the machine that trained. Where they differ on the machine that predicts (another JPEG
library, another Pillow), the model is served other pixels than it learnt from, and this says so.
"""

from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from kerasxfer_serving.images import ImagePolicy
from kerasxfer_serving.model.manifest import Manifest


def golden_files() -> list[Traversable]:
    """The golden images, by name."""
    return sorted((files(__package__) / "image_io" / "golden_images").iterdir(), key=lambda image: image.name)


def golden_hashes(size: tuple[int, int], policy: ImagePolicy | None = None) -> dict[str, str]:
    """SHA-256 of the pixels of every golden image, as this machine decodes and resizes it.

    Args:
        size: `(height, width)` of the model's input.
        policy: `ImagePolicy`. Defaults to `None`, the default policy.

    Returns:
        Hash in hexadecimal by file name.
    """
    policy = policy or ImagePolicy()
    return {file.name: sha256(policy.load(file.read_bytes(), size).tobytes()).hexdigest() for file in golden_files()}


def changed(manifest: Manifest) -> list[str]:
    """Names of the golden images that this machine reads otherwise than the machine that wrote the manifest.

    Args:
        manifest: The `Manifest`; one without golden hashes (a model from elsewhere) has nothing to differ from.

    Returns:
        Sorted names; empty where all is the same. A name this version does not know counts as changed.
    """
    if not manifest.golden:
        return []
    here = golden_hashes(manifest.image_size, manifest.policy)
    return sorted(name for name, value in manifest.golden.items() if here.get(name) != value)
