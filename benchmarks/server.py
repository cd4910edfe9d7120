"""Online serving against the offline stream of the same predictor, and against LitServe: ratios, in one run.

    python benchmarks/server.py model.onnx IMAGES [--litserve PYTHON] [-o result.json]

The measure is processor time an image, of the server alone, read from /proc: other work on the machine disturbs it
less than rates. Rounds are interleaved, and each ratio is the median over them. Requests go to 127.0.0.1, a bounded
number of them. PYTHON is the interpreter of an environment with LitServe, ONNX Runtime, Pillow and what this package
requires.
"""

import argparse
import asyncio
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SERVING = Path(__file__).parents[1] / "serving"
CONCURRENCIES = (1, 16, 64)
NO_OP_BYTES = 31_000
LITSERVE = """
import sys, litserve
from kerasxfer_serving.inputs.input import given_input
from kerasxfer_serving.predictor import Predictor

class Api(litserve.LitAPI):
    def setup(self, device):
        self.predictor = Predictor(sys.argv[1], device="cpu", threads=1)
    def decode_request(self, request):
        return request["content"].file.read()
    def batch(self, inputs):
        return list(inputs)
    def predict(self, images):
        return list(self.predictor.predict_batch([given_input("", image) for image in images], threads=1).rows())
    def unbatch(self, output):
        return output
    def encode_response(self, row):
        return row

if __name__ == "__main__":
    api = Api(max_batch_size=8, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(sys.argv[3]))
    server.run(host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--litserve", metavar="PYTHON", help="adds LitServe, run by this interpreter")
    parser.add_argument("--requests", type=int, default=400, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=[*CHILDREN], help=argparse.SUPPRESS)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        CHILDREN[arguments.child](arguments.model)
        return
    result = measure(arguments)
    print(json.dumps(result["ratios"], indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def measure(arguments: argparse.Namespace) -> dict:
    images = [path.read_bytes() for path in sorted(arguments.images.rglob("*.jpg"))[:400]]
    steps = {"offline": lambda: offline(arguments, images)}
    with Served(child(arguments.model, "split")) as split, Served(child(arguments.model, "one-pool")) as pool:
        for concurrency in CONCURRENCIES:
            steps[f"raw, {concurrency}"] = lambda c=concurrency: cost(split, raw(images), c, arguments.requests)
        steps["binary OIP, 16"] = lambda: cost(split, oip(images), 16, arguments.requests)
        steps["no-op"] = lambda: cost(split, raw([b"x" * NO_OP_BYTES], "/no-op"), 16, 4 * arguments.requests)
        steps["small beside large, split"] = lambda: p90_of_small(split, images, arguments.requests)
        steps["small beside large, one pool"] = lambda: p90_of_small(pool, images, arguments.requests)
        memory = {}
        if arguments.litserve:
            with Served(litserve(arguments), form=True) as lit:
                steps["LitServe, 16"] = lambda: cost(lit, form(images), 16, arguments.requests)
                samples = rounds(steps, arguments.rounds)
                memory["LitServe"], idle_lit = lit.memory(), idle(lit)
        else:
            samples, idle_lit = rounds(steps, arguments.rounds), None
        memory["ours"], idle_ours = split.memory(), idle(split)
    return {
        "model": Path(arguments.model).name,
        "load": os.getloadavg()[0],
        "cores": len(os.sched_getaffinity(0)),
        "ratios": ratios(samples) | {"no-op, ms": statistics.median(samples["no-op"])},
        "memory_mib": memory,
        "idle_cores": {"ours": idle_ours, "LitServe": idle_lit},
        "samples_ms": samples,
    }


def rounds(steps: dict, count: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():  # warm up
        step()
    for _ in range(count):
        for name, step in steps.items():
            samples[name].append(step())
            print(f"{name:<30} {samples[name][-1]:8.3f} ms", file=sys.stderr)
    return samples


def ratios(samples: dict[str, list[float]]) -> dict[str, float]:
    pairs = {f"{name} / offline": (name, "offline") for name in samples if name.startswith("raw") or "OIP" in name}
    pairs["binary OIP / raw"] = ("binary OIP, 16", "raw, 16")
    pairs["small's p90, split / one pool"] = ("small beside large, split", "small beside large, one pool")
    if "LitServe, 16" in samples:
        pairs |= {"ours / LitServe": ("raw, 16", "LitServe, 16"), "LitServe / offline": ("LitServe, 16", "offline")}
    return {
        name: round(statistics.median(a / b for a, b in zip(samples[first], samples[second], strict=True)), 3)
        for name, (first, second) in pairs.items()
    }


def offline(arguments: argparse.Namespace, images: list[bytes]) -> float:
    """Processor milliseconds an image of the offline stream, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for index, image in enumerate(images):
            Path(folder, f"{index:05}.jpg").write_bytes(image)
        command = [sys.executable, __file__, arguments.model, "--child", "offline"]
        environment = os.environ | {"FOLDER": folder, "COUNT": str(arguments.requests)}
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def offline_child(model: str) -> None:
    from itertools import cycle, islice

    from kerasxfer_serving.inputs.reader import Reader
    from kerasxfer_serving.predictor import Predictor

    predictor = Predictor(model, device="cpu", threads=1)
    items = list(Reader([os.environ["FOLDER"]]))
    for count in (32, int(os.environ["COUNT"])):  # the first to warm up
        started = time.process_time()
        done = sum(len(predictions) for predictions in predictor.stream(islice(cycle(items), count)))
        cost = (time.process_time() - started) / done * 1000
    print(cost)


def split_child(model: str) -> None:
    """Our server, with a path that reads a body and does nothing."""
    from kerasxfer_serving.server import create_app
    from kerasxfer_serving.server.context import body_of
    from starlette.responses import Response
    from starlette.routing import Route

    async def no_op(request):
        await body_of(request)
        return Response()

    app = create_app({"m": model})
    app.router.routes.insert(0, Route("/no-op", no_op, methods=["POST"]))
    run(app)


def one_pool_child(model: str) -> None:
    """Our server, but decoding in the threads that run the model."""
    from kerasxfer_serving.server import create_app
    from kerasxfer_serving.server.models import ServedModel

    decode, answer = ServedModel.decode, ServedModel.run
    ServedModel.decode = lambda self, source: source
    ServedModel.run = lambda self, paths, sources: answer(self, paths, [decode(self, source) for source in sources])
    run(create_app({"m": model}))


def run(app) -> None:
    from kerasxfer_serving.server.logs import configure_logs
    from kerasxfer_serving.server.running import RunOptions, listen, make_server

    configure_logs("json")
    options = RunOptions(port=int(os.environ["PORT"]))
    make_server(app, options).run([listen(options)])


CHILDREN = {"offline": offline_child, "split": split_child, "one-pool": one_pool_child}


class Served:
    """A server process and its children: their processor time and memory."""

    def __init__(self, command: list[str], form: bool = False) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [part.replace("PORT", str(self.port)) for part in command],
            env=os.environ | {"PORT": str(self.port), "PYTHONPATH": str(SERVING)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> "Served":
        for _ in range(600):
            time.sleep(0.1)
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self.process.poll() is None, "a server ended"
                continue
            time.sleep(2)
            return self
        raise TimeoutError("a server did not start")

    def __exit__(self, *_) -> None:
        for pid in reversed(self.pids()):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        self.process.wait()

    def pids(self) -> list[int]:
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    parents[int(entry.name)] = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def seconds(self) -> float:
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Proportional set sizes, MiB: pages that processes share count once."""
        total = 0
        for pid in self.pids():
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1])
        return round(total / 1024, 1)


def child(model: str, name: str) -> list[str]:
    return [sys.executable, __file__, model, "--child", name]


def litserve(arguments: argparse.Namespace) -> list[str]:
    script = Path(tempfile.mkdtemp()) / "lit.py"
    script.write_text(LITSERVE)
    return [arguments.litserve, str(script), arguments.model, "PORT", str(len(os.sched_getaffinity(0)))]


def idle(server: Served, seconds: float = 5.0) -> float:
    before = server.seconds()
    time.sleep(seconds)
    return round((server.seconds() - before) / seconds, 4)


def raw(images: list[bytes], path: str = "/predict") -> list[bytes]:
    return [post(path, image, "application/octet-stream") for image in images]


def oip(images: list[bytes]) -> list[bytes]:
    requests = []
    for image in images:
        parameters = {"binary_data_size": len(image) + 4}
        entry = {"name": "images", "datatype": "BYTES", "shape": [1], "parameters": parameters}
        header = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
        body = header + len(image).to_bytes(4, "little") + image
        extra = f"Inference-Header-Content-Length: {len(header)}\r\n"
        requests.append(post("/v2/models/m/infer", body, "application/octet-stream", extra))
    return requests


def form(images: list[bytes]) -> list[bytes]:
    head = b'--x\r\nContent-Disposition: form-data; name="content"; filename="a.jpg"\r\n\r\n'
    return [post("/predict", head + image + b"\r\n--x--\r\n", "multipart/form-data; boundary=x") for image in images]


def post(path: str, body: bytes, content_type: str, extra: str = "") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode() + body


def cost(server: Served, requests: list[bytes], concurrency: int, count: int) -> float:
    """Processor milliseconds a request."""
    before = server.seconds()
    asyncio.run(load(server.port, requests, concurrency, count))
    return (server.seconds() - before) / count * 1000


def p90_of_small(server: Served, images: list[bytes], count: int) -> float:
    """Milliseconds in which nine of ten small images are answered, one in twelve being of twelve megapixels."""
    requests = raw([*images[:11], large_image()])
    latencies = asyncio.run(load(server.port, requests, 8, count))
    small = [latency for index, latency in latencies if index % 12 != 11]
    return float(np.percentile(small, 90)) * 1000


def large_image() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (94, 125, 3), "uint8")
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((4000, 3000), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


async def load(port: int, requests: list[bytes], concurrency: int, count: int) -> list[tuple[int, float]]:
    """Send `count` requests over so many connections, each as soon as the one before is answered."""
    numbers = iter(range(count))
    latencies: list[tuple[int, float]] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            started = time.perf_counter()
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append((number, time.perf_counter() - started))
        writer.close()

    await asyncio.gather(*(connection() for _ in range(concurrency)))
    return latencies


if __name__ == "__main__":
    main()
