"""JPEG files decoded and resized on an NVIDIA GPU: nvImageCodec decodes, a kernel of our own resizes as Pillow does.

What a GPU decodes otherwise than Pillow, or not at all (other formats, CMYK, broken files), Pillow decodes, image by
image. `checked_decoder` refuses a GPU whose pixels of the golden images are too far from Pillow's.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kerasxfer_serving.errors import DeviceError, ImageError, UsageError
from kerasxfer_serving.golden import golden_files
from kerasxfer_serving.image_io.decoding import MAX_BYTES, open_regular
from kerasxfer_serving.image_io.jpeg import Frame, read_frame
from kerasxfer_serving.image_io.resizing import geometry
from kerasxfer_serving.images import TURNS, DecodedImage, ImagePolicy, swaps_sides
from kerasxfer_serving.inputs.input import Batch, Input, given_input

TOLERANCE = 1.5
"""Largest mean difference from Pillow, of 255, that a golden image may have."""

LANES = 2
"""Batches in work at once: one decodes while the other is resized and copied."""

_BLOCK = (32, 8)
_MAX_PIXELS = 1 << 26  # of one image; a larger one would hold up its batch
_JOB = np.dtype(
    [("source", "u8"), ("rows", "u8"), ("target", "u8"), ("pitch", "i8"), ("target_pitch", "i8")]
    + [(name, "i4") for name in ("width", "height", "to_width", "to_height")]
    + [(name, "f4") for name in ("left", "top", "right", "bottom")]
)

PillowDecode = Callable[[Input], DecodedImage | ImageError]


class _Jpeg(NamedTuple):
    place: int
    data: bytes
    frame: Frame


class _Lane(NamedTuple):
    decoder: Any
    stream: Any


class GpuDecoder:
    """Decodes batches of images on a GPU. Safe to use from many threads.

    Args:
        size: `(height, width)` of the result.
        policy: `ImagePolicy`; any interpolation but `"nearest"`.
        gpu_id: Number of the GPU. Defaults to 0.

    Attributes:
        fallbacks: Number of images that Pillow decoded, since the decoder was made.
        difference: `mean` and `max` of the absolute differences from Pillow's pixels on the golden images, of 255; the
            mean is that of the worst image. Set by `checked_decoder`.

    Raises:
        DeviceError: NvImageCodec or CuPy is not installed, or does not start on the GPU.
        ValueError: The policy is not one that the GPU can follow.

    Example:

    ```python
    decoder = GpuDecoder((224, 224), ImagePolicy(decoder="gpu"))
    images = decoder.decode(as_inputs(["cat.jpg", "dog.png"]), pillow)  # the PNG goes to `pillow`
    ```
    """

    def __init__(self, size: tuple[int, int], policy: ImagePolicy, gpu_id: int = 0) -> None:
        if policy.interpolation == "nearest":
            raise UsageError("`decoder='gpu'` supports every interpolation except 'nearest'. Received: 'nearest'")
        self.size = size
        self.policy = policy
        self.fallbacks = 0
        self.difference: dict[str, float] = {}
        self._gpu_id = gpu_id
        self._filter = np.int32(Image.Resampling[policy.interpolation.upper()].value)
        self._lock = threading.Lock()
        self._lanes: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        try:
            self._start()
        except Exception as error:  # a missing package, library or device; each has errors of its own
            raise DeviceError(
                f"`decoder='gpu'` is not available: {error}. It needs an NVIDIA GPU and "
                "`pip install 'kerasxfer-serving[gpu-decode]'`; without them leave `decoder` at 'pillow'."
            ) from error

    def decode(self, items: Sequence[Input], pillow: PillowDecode) -> Batch:
        """Pixels of each input at the decoder's size.

        Args:
            items: The inputs.
            pillow: Decodes one input by Pillow, or says what is wrong with it.

        Returns:
            One `DecodedImage` or `ImageError` per input, in order, with the pixels of all.
        """
        opened = [self._open(item) for item in items]
        jpegs = [_Jpeg(index, *known.jpeg) for index, known in enumerate(opened) if known.jpeg is not None]
        done, pixels = self._decode(jpegs) if jpegs else ({}, None)
        with self._lock:
            self.fallbacks += len(items) - len(done)
        images = [done[index] if index in done else pillow(known.item) for index, known in enumerate(opened)]
        in_place = pixels is not None and len(done) == len(items) and not any(map(self._is_turned, jpegs))
        return Batch(images, pixels if in_place else None, size=self.size)

    def _start(self) -> None:
        import cupy
        from nvidia import nvimgcodec

        self._cupy, self._codec = cupy, nvimgcodec
        source = (files(__package__) / "resize.cu").read_text("utf-8")
        filters = [f"-D{name}={Image.Resampling[name].value}" for name in ("BOX", "BILINEAR", "HAMMING", "BICUBIC")]
        options = ("--fmad=false", *filters, f"-DLANCZOS={Image.Resampling.LANCZOS.value}")
        with cupy.cuda.Device(self._gpu_id):
            kernels = cupy.RawModule(code=source, options=options)
            self._rows, self._columns = kernels.get_function("resample_rows"), kernels.get_function("resample_columns")
            for _ in range(LANES):
                # libjpeg-turbo, and so Pillow, interpolates the chroma samples; the fast way would repeat them.
                decoder = nvimgcodec.Decoder(device_id=self._gpu_id, options=":fancy_upsampling=1")
                self._lanes.put(_Lane(decoder, cupy.cuda.Stream(non_blocking=True)))
        self._params = nvimgcodec.DecodeParams(apply_exif_orientation=False, color_spec=nvimgcodec.ColorSpec.SRGB)

    def _open(self, item: Input) -> "_Opened":
        try:
            source = item.open()
            data = _read(source)
        except Exception:  # whatever it is, Pillow's way meets it again and names it
            return _Opened(item, None)
        frame = read_frame(data) if data is not None else None
        if data is None or frame is None or not self._follows(frame):
            return _Opened(Input(item.path, lambda: source, item.size), None)
        return _Opened(item, (data, frame))

    def _follows(self, frame: Frame) -> bool:
        """Whether the GPU's way leads to Pillow's result: borders are added before an image is turned, there after."""
        turned = self.policy.exif == "apply" and frame.orientation != 1
        most = min(_MAX_PIXELS, self.policy.max_pixels or _MAX_PIXELS)  # Pillow's way refuses what exceeds the policy's
        return frame.width * frame.height <= most and not (turned and self.policy.resize == "pad")

    @contextmanager
    def _lane(self) -> Iterator[_Lane]:
        lane = self._lanes.get()
        try:
            with self._cupy.cuda.Device(self._gpu_id), lane.stream:
                yield lane
        finally:
            self._lanes.put(lane)

    def _decode(self, jpegs: Sequence[_Jpeg]) -> tuple[dict[int, DecodedImage], NDArray[np.uint8]]:
        """Images by index, of those that the GPU can decode, and their pixels, not turned yet."""
        with self._lane() as lane:
            streams = [self._codec.CodeStream(data) for _, data, _ in jpegs]
            images = lane.decoder.decode(streams, params=self._params, cuda_stream=lane.stream.ptr)
            good = [(index, frame, image) for (index, _, frame), image in zip(jpegs, images, strict=True) if image]
            pixels = self._resize([frame for _, frame, _ in good], [image for _, _, image in good])
        finished = (self._finish(frame, row) for (_, frame, _), row in zip(good, pixels, strict=True))
        return dict(zip((index for index, _, _ in good), finished, strict=True)), pixels

    def _resize(self, frames: list[Frame], images: list[Any]) -> NDArray[np.uint8]:
        """Pixels `[n, height, width, 3]`, not turned yet: a turned image fills a transposed part of its place."""
        cupy = self._cupy
        height, width = self.size
        side = max(height, width) if any(map(self._swaps, frames)) else 0
        canvas = cupy.zeros((len(images), max(height, side), max(width, side), 3), cupy.uint8)
        image_bytes, pitch = canvas.strides[:2]
        jobs = np.zeros(len(images), _JOB)
        scratch_bytes = 0
        for place, (frame, image) in enumerate(zip(frames, images, strict=True)):
            source = image.__cuda_array_interface__
            row_bytes = source["strides"][0] if source["strides"] else 3 * frame.width
            size = self.size[::-1] if self._swaps(frame) else self.size
            box, (to_width, to_height) = geometry(
                (frame.width, frame.height), size, self.policy.resize, self.policy.crop_fraction
            )
            border = (size[0] - to_height) // 2 * pitch + (size[1] - to_width) // 2 * 3
            target = canvas.data.ptr + place * image_bytes + border
            sizes = (frame.width, frame.height, to_width, to_height)
            jobs[place] = (source["data"][0], scratch_bytes, target, row_bytes, pitch, *sizes, *box)
            scratch_bytes += frame.height * to_width * 3
        scratch = cupy.empty(scratch_bytes, cupy.uint8)
        jobs["rows"] += np.uint64(scratch.data.ptr)
        self._launch(jobs)
        return canvas.get()  # type: ignore[no-any-return]

    def _launch(self, jobs: NDArray[Any]) -> None:
        on_gpu = self._cupy.asarray(jobs.view(np.uint8))
        for kernel, rows in ((self._rows, "height"), (self._columns, "to_height")):
            grid = (-(-int(jobs["to_width"].max()) // _BLOCK[0]), -(-int(jobs[rows].max()) // _BLOCK[1]), len(jobs))
            kernel(grid, _BLOCK, (on_gpu, self._filter))

    def _is_turned(self, jpeg: _Jpeg) -> bool:
        return self.policy.exif == "apply" and jpeg.frame.orientation != 1

    def _swaps(self, frame: Frame) -> bool:
        return self.policy.exif == "apply" and swaps_sides(frame.orientation)

    def _finish(self, frame: Frame, pixels: NDArray[np.uint8]) -> DecodedImage:
        height, width = self.size
        swap = self._swaps(frame)
        pixels = pixels[:width, :height] if swap else pixels[:height, :width]
        if self.policy.exif == "apply" and frame.orientation in TURNS:
            pixels = np.asarray(Image.fromarray(pixels).transpose(TURNS[frame.orientation]))
        stored = (frame.width, frame.height)
        seen = stored[::-1] if swap else stored
        return DecodedImage(
            pixels=pixels, width=seen[0], height=seen[1], format="JPEG", mode=frame.mode, animated=False
        )


def checked_decoder(
    size: tuple[int, int], policy: ImagePolicy, gpu_id: int = 0
) -> tuple[GpuDecoder, list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]:
    """A decoder whose pixels are close to Pillow's on this machine.

    Args:
        size: As for `GpuDecoder`, and so the rest.
        policy: See `GpuDecoder`.
        gpu_id: See `GpuDecoder`.

    Returns:
        The decoder, and the golden images that it decodes: its pixels and Pillow's, in pairs.

    Raises:
        DeviceError: The decoder is not available, or too far from Pillow.
    """
    decoder = GpuDecoder(size, policy, gpu_id)
    items = [given_input(file.name, file.read_bytes()) for file in golden_files()]
    ours = decoder.decode(items, lambda item: ImageError("unsupported", "left to Pillow"))
    pairs = [
        (image.pixels, policy.load(item.open(), size))
        for item, image in zip(items, ours, strict=True)
        if isinstance(image, DecodedImage)
    ]
    apart = [np.abs(one.astype(int) - other) for one, other in pairs]
    decoder.difference = {
        "mean": max(float(differences.mean()) for differences in apart),
        "max": max(float(differences.max()) for differences in apart),
    }
    decoder.fallbacks = 0
    if decoder.difference["mean"] > TOLERANCE:
        raise DeviceError(
            f"`decoder='gpu'` is refused: on a golden image its pixels differ from Pillow's by "
            f"{decoder.difference['mean']:.2f} of 255 on average, more than {TOLERANCE}. Leave `decoder` at 'pillow'."
        )
    return decoder, pairs


class _Opened(NamedTuple):
    """An input whose bytes were read, so that they are not read again; and its JPEG file, if it is a plain one."""

    item: Input
    jpeg: tuple[bytes, Frame] | None


def _read(source: Any) -> bytes | None:
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | os.PathLike):
        return None
    with open_regular(source, repr(source)) as file:
        return file.read() if os.fstat(file.fileno()).st_size <= MAX_BYTES else None
