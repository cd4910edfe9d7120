"""What a server may spend on its clients, and how it runs its models."""

import math
from dataclasses import dataclass

from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.runtime.resources import available_cores

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Options of `create_app`. All limits are per process.

    Args:
        device: `"auto"`, `"cpu"`, `"openvino"`, `"cuda"`, `"tensorrt"` or `"fastest"`; see `Predictor`. Defaults to
            `"auto"`.
        cpu_precision: `"f32"` or `"bf16"`; see `Predictor`. Defaults to `None`, what the model's manifest says.
        threads: CPU cores to use: as many images are decoded, and as many batches run, at once. Defaults to all cores
            this process may use.
        max_batch: Most images in one run of a model. Defaults to `None`: 8 on the CPU, 128 on a GPU.
        batch_delay: Seconds that a GPU waits for a batch to fill. Defaults to 0.002. The CPU never waits.
        max_waiting: Images accepted and not yet answered; beyond, requests get 503. Defaults to 256.
        max_waiting_bytes: Bytes of all requests in hand; beyond, requests get 503. Defaults to 256 MiB.
        max_body: Bytes of one request body, compressed or not; beyond, 413. Defaults to 32 MiB.
        max_images: Images in one request; beyond, 413. Defaults to 128.
        max_pixels: See `ImagePolicy`. Defaults to `None`, by the memory that there is.
        timeout: Seconds from the request to its answer; beyond, 504, and what has not begun is dropped. Defaults to 30.
        receive_timeout: Seconds in which a request must arrive, and one more for every 64 KiB of it; beyond, 408.
            Defaults to 10.
        tokens: Bearer tokens that open the server; probes stay open. Defaults to none: everybody may ask.
        cors_origins: Origins whose pages may read answers. Defaults to none.
    """

    device: str = "auto"
    cpu_precision: str | None = None
    threads: int | None = None
    max_batch: int | None = None
    batch_delay: float = 0.002
    max_waiting: int = 256
    max_waiting_bytes: int = 256 * MIB
    max_body: int = 32 * MIB
    max_images: int = 128
    max_pixels: int | None = None
    timeout: float = 30.0
    receive_timeout: float = 10.0
    tokens: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_waiting", "max_waiting_bytes", "max_body", "max_images"):
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}` must be at least 1. Received: {name}={getattr(self, name)}")
        for name in ("timeout", "receive_timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"`{name}` must be more than 0 seconds. Received: {name}={getattr(self, name)}")

    @property
    def cores(self) -> int:
        """Cores that the server uses."""
        return self.threads or available_cores()
