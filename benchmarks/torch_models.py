"""The peer on the same card: torchvision's VGG16 and InceptionV3 in PyTorch, as fast as its documentation makes them.

    python benchmarks/torch_models.py -o peers.json [--batches 128 256] [--seconds 2]

Channels last, float16, cuDNN's benchmark mode, `torch.compile`, warm; once under autocast and once with the weights in
float16. The pixels are on the card, normalised, in float16 and channels last: less work than an exported file does.
Beside the rates stand what the card's memory and matrix units do at best: a large copy and a large matrix product.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torchvision

MODELS = {
    "VGG16@224": (lambda: torchvision.models.vgg16(init_weights=False), 224),
    "InceptionV3@299": (
        lambda: torchvision.models.inception_v3(aux_logits=False, init_weights=False, transform_input=False),
        299,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="*", default=[128, 256])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "card": card(device), "rates": {}}
    result |= limits(device)
    for name, (build, size) in MODELS.items():
        for way in ("eager half", "compiled half", "compiled autocast"):
            for batch in arguments.batches:
                try:
                    rate = measure(build, size, way, batch, device, arguments.seconds)
                except Exception as error:
                    rate = f"{type(error).__name__}: {error}"[:300]
                result["rates"][f"{name}, {way}, batch {batch}"] = rate
                print(name, way, batch, rate, flush=True)
                arguments.out.write_text(json.dumps(result, indent=2) + "\n")


@torch.inference_mode()
def measure(build, size, way, batch, device, seconds) -> float:
    torch.manual_seed(0)
    model = build().eval().to(device, memory_format=torch.channels_last)
    images = torch.rand(batch, 3, size, size, device=device).sub_(0.5).to(memory_format=torch.channels_last).half()
    autocast = torch.autocast(device, torch.float16, enabled=way.endswith("autocast"))
    if not way.endswith("autocast"):
        model = model.half()
    if way.startswith("compiled"):
        model = torch.compile(model)
    with autocast:
        for _ in range(5):
            model(images)
        rates = [rate(lambda: model(images), batch, device, seconds / 3) for _ in range(3)]
    return statistics.median(rates)


def rate(run, images, device, seconds) -> float:
    synchronize(device)
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(5):
            run()
        runs += 5
        synchronize(device)
    return runs * images / (time.perf_counter() - started)


def synchronize(device) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def limits(device) -> dict:
    """TFLOP/s of a float16 matrix product, and TB/s of a copy (bytes read and written)."""
    side = 8192 if device == "cuda" else 512
    left, right = (torch.randn(side, side, device=device, dtype=torch.float16) for _ in range(2))
    source = torch.randn(side * side * 4, device=device)
    target = torch.empty_like(source)
    with torch.inference_mode():
        products = rate(lambda: left @ right, 1, device, 1.0)
        copies = rate(lambda: target.copy_(source), 1, device, 1.0)
    return {"tflops": products * 2 * side**3 / 1e12, "copy_tb_s": copies * 2 * source.numel() * 4 / 1e12}


def card(device) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


if __name__ == "__main__":
    main()
