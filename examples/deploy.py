"""From class folders to production: train, export in fp32 and int8, check, predict, benchmark, a Triton repository.

Each step is a command of `kerasxfer` or `kerasxfer-serving`; this script prints each command and runs it.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from _common import arguments

args = arguments(__doc__ or "", epochs=20)
run, held_out = args.out / "run", args.validation or args.test or args.data


def command(text: str) -> None:
    """Run one command of kerasxfer, which stands beside this Python."""
    print(f"\n$ {text}", flush=True)
    program, *rest = shlex.split(text)
    subprocess.run([str(Path(sys.executable).parent / program), *rest], check=True)


def quoted(path: object) -> str:
    """Quote a path for the command line."""
    return shlex.quote(str(path))


out, data, images = quoted(args.out), quoted(args.data), quoted(held_out)
validation = f"--validation {images}" if args.validation else "--validation-split 0.2"
backbone = f"--backbone {args.backbone} --weights {quoted(args.weights)} --image-size {args.image_size}"
if args.backbone_output:
    backbone += f" --backbone-output {args.backbone_output}"
if args.backbone_args:
    backbone += " --backbone-args " + quoted(",".join(f"{key}={value}" for key, value in args.backbone_args.items()))
recipe = f"--head {args.head} --dropout {args.dropout} --optimizer {args.optimizer} --epochs {args.epochs}"

command(
    f"kerasxfer train {data} {validation} {backbone} {recipe} --learning-rate {args.learning_rate} "
    f"--cache {out}/cache --seed {args.seed} --out {quoted(run)}"
)
command(f"kerasxfer export {quoted(run)} -o {out}/fp32.onnx --check {images} --triton {out}/triton")
command(f"kerasxfer export {quoted(run)} -o {out}/int8.onnx --precision int8 --calibration {data} --check {images}")
command(f"kerasxfer check {out}/int8.onnx --against {quoted(run)} --data {images}")
command(f"kerasxfer-serving predict {out}/int8.onnx {images} -o {out}/predictions.csv --top-k 2")
for precision in ("fp32", "int8"):
    duration = 0.2 if args.quick else 10
    command(
        f"kerasxfer-serving benchmark {out}/{precision}.onnx --data {images} --batch-sizes 1,16 "
        f"--duration {duration} -o {out}/{precision}.json"
    )
command(f"kerasxfer-serving compare {out}/fp32.json {out}/int8.json")
command(f"kerasxfer-serving inspect {out}/int8.onnx")
