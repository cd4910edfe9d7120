"""`kerasxfer cache`: plan, fill, check and clear a directory of cached activations."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from kerasxfer_serving.commands import _output
from kerasxfer_serving.commands._choices import Engine
from kerasxfer_serving.commands.options import refuse_without_ray
from kerasxfer_serving.errors import KerasxferError, UsageError
from typer import Argument, Option

from kerasxfer.commands._quiet import quiet

if TYPE_CHECKING:
    import keras

    from kerasxfer.bottleneck.cache import BottleneckCache
    from kerasxfer.bottleneck.planner import Plan

app = typer.Typer(no_args_is_help=True, help="Activations cached at the freeze boundary: plan, fill, check, clear.")

Directory = Annotated[Path, Argument(help="The cache's folder.", show_default=False)]
Model = Annotated[Path, Argument(help="Model file, `.keras`.", show_default=False)]
Data = Annotated[Path, Argument(help="Folder of class folders.", show_default=False)]
Schedule = Annotated[
    Path | None, Option(help="YAML file of stages. Defaults to what MODEL trains now.", show_default=False)
]
Resize = Annotated[str, Option(help="stretch, crop or pad to the model's size.")]
Interpolation = Annotated[str, Option(help="Filter of the resize.")]
Exif = Annotated[str, Option(help="apply or ignore the orientation tag.")]
BatchSize = Annotated[int, Option(help="Pictures in a batch.")]
Dtype = Annotated[str | None, Option(help="float16 for half the size, not exact.", show_default=False)]
Budget = Annotated[str | None, Option(help="Largest size of the folder, e.g. 20GB.", show_default=False)]
Format = Annotated[_output.Format, Option(help="How the result is printed.")]
RAY = "On a Ray cluster"


@app.command()
@quiet
def plan(
    cache: Directory, model: Model, data: Data, schedule: Schedule = None, resize: Resize = "stretch",
    interpolation: Interpolation = "bilinear", exif: Exif = "apply", batch_size: BatchSize = 32, dtype: Dtype = None,
    budget: Budget = None, format: Format = _output.Format.text,
) -> None:  # fmt: skip
    """Show where each stage would be cached, how large that is and what it gains; compute nothing."""
    bottleneck, network = _cache(cache, dtype, budget, verbose=0), _loaded(model)
    pictures = _folder(data, network, batch_size, resize, interpolation, exif)
    _print_plan(bottleneck.plan(network, pictures, _stages(schedule)), format)


@app.command()
@quiet
def build(
    cache: Directory, model: Model, data: Data, schedule: Schedule = None,
    shard: Annotated[
        str | None, Option(help="i/n, from 0/n to (n-1)/n: this machine's part of the work.", show_default=False)
    ] = None,
    engine: Annotated[Engine, Option(help="local, or ray: by the workers of a cluster.")] = Engine.local,
    address: Annotated[
        str | None, Option(help="Of the Ray cluster, or auto.", rich_help_panel=RAY, show_default=False)
    ] = None,
    num_workers: Annotated[
        int | None,
        Option(min=1, help="Workers; they divide the cores. Defaults to one a node.", rich_help_panel=RAY,
               show_default=False),
    ] = None,
    gpus_per_worker: Annotated[float, Option(min=0, help="GPUs of each worker.", rich_help_panel=RAY)] = 0,
    resize: Resize = "stretch", interpolation: Interpolation = "bilinear", exif: Exif = "apply",
    batch_size: BatchSize = 32, dtype: Dtype = None, budget: Budget = None, format: Format = _output.Format.text,
) -> None:  # fmt: skip
    """Compute the activations of all stages in one pass; what is there already is kept."""
    part = _part(shard)
    cluster: dict[str, Any] = {"address": address, "num_workers": num_workers, "gpus_per_worker": gpus_per_worker}
    _check_engine(engine, shard, cluster)
    bottleneck, network = _cache(cache, dtype, budget), _loaded(model)
    pictures = _folder(data.resolve(), network, batch_size, resize, interpolation, exif)
    if engine is Engine.ray:
        done = bottleneck.build_on_ray(network, pictures, _stages(schedule), **cluster)
    else:
        done = bottleneck.build(network, pictures, _stages(schedule), shard=part)
    _print_plan(done, format)


@app.command()
@quiet
def verify(cache: Directory, format: Format = _output.Format.text) -> None:
    """Compare every shard with its hash; damaged ones are removed, to be computed again. Exits with 1 if there are."""
    damaged = _existing(cache).verify()
    _print_rows(damaged, format, "All shards are sound.")
    if damaged:
        raise KerasxferError(f"{len(damaged)} files in '{cache}' are damaged or unfinished. The next build mends that.")


@app.command()
@quiet
def ls(cache: Directory, format: Format = _output.Format.text) -> None:
    """List what is cached."""
    rows = _existing(cache).list()
    if format is _output.Format.text:
        rows = [_brief(row) for row in rows]
    _print_rows(rows, format, "The cache is empty.")


@app.command()
@quiet
def gc(
    cache: Directory, budget: Budget = None,
    older_than: Annotated[
        float | None, Option(help="Remove what was not used for so many days.", show_default=False)
    ] = None,
    format: Format = _output.Format.text,
) -> None:  # fmt: skip
    """Remove leftovers of killed builds, then what was used longest ago."""
    _print_rows(_existing(cache).gc(budget, older_than), format, "Nothing to remove.")


def _cache(directory: Path, dtype: str | None = None, budget: str | None = None, verbose: int = 1) -> "BottleneckCache":
    from kerasxfer.bottleneck.cache import BottleneckCache

    try:
        return BottleneckCache(directory, dtype=dtype, budget=budget, verbose=verbose)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


def _existing(directory: Path) -> "BottleneckCache":
    if not directory.is_dir():
        raise UsageError(f"`CACHE` must be a folder. Received: '{directory}', which is none.")
    return _cache(directory)


def _loaded(path: Path) -> "keras.Model":
    from kerasxfer.keras_files import load_model

    if not path.is_file():
        raise UsageError(f"`MODEL` must be a `.keras` file. Received: '{path}', which does not exist.")
    return load_model(path)


def _folder(data: Path, model: Any, batch_size: int, resize: str, interpolation: str, exif: str) -> Any:
    from kerasxfer_serving.images import ImagePolicy

    from kerasxfer.data.image_folder import ImageFolder

    try:
        policy = ImagePolicy.from_dict({"interpolation": interpolation, "resize": resize, "exif": exif})
        return ImageFolder(data, model.input_shape[1:3], batch_size, shuffle=False, policy=policy)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _stages(schedule: Path | None) -> Any:
    if schedule is None:
        return None
    from kerasxfer.callbacks import ProgressiveUnfreezing

    return ProgressiveUnfreezing.from_yaml(schedule).stages


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UsageError(f"`--shard` must be i/n with i from 0 to n-1, as in 0/4. Received: {text!r}")
    return int(index), int(count)


def _check_engine(engine: Engine, shard: str | None, cluster: dict[str, Any]) -> None:
    """Refuse what another engine takes."""
    refuse_without_ray(engine, **{name: value or None for name, value in cluster.items()})
    if engine is Engine.ray and shard is not None:
        raise UsageError(f"`--shard` is for builds without Ray, which divides the work itself. Received: {shard!r}")


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """What fits on a line."""
    from kerasxfer.bottleneck.planner import human_bytes

    kept = {key: row[key] for key in ("boundary", "model", "backend", "rows")}
    return {
        **kept,
        "size": human_bytes(row["bytes"]),
        "last used": row["last_used"][:10],
        "key": row["fingerprint"][:8],
    }


def _print_plan(result: "Plan", format: _output.Format) -> None:
    if format is _output.Format.json:
        _output.print_json({"pictures": result.pictures, "bytes": result.size, "stages": result.rows})
    else:
        print(result)


def _print_rows(rows: list[dict[str, Any]], format: _output.Format, nothing: str) -> None:
    if format is _output.Format.json:
        _output.print_json(rows)
    elif rows:
        _output.print_table(rows)
    else:
        _output.note(nothing)
