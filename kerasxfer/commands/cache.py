"""`kerasxfer cache`: plan, fill, check and clear a directory of cached activations."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from kerasxfer_serving.commands.choices import EngineName, ResultFormat
from kerasxfer_serving.commands.options import (
    ON_RAY,
    AddressOption,
    EngineOption,
    FormatOption,
    NumWorkersOption,
    grouped,
    refuse_without_ray,
)
from kerasxfer_serving.commands.output import note, print_json, print_table
from kerasxfer_serving.errors import KerasxferError, UsageError
from typer import Argument, Option

from kerasxfer.commands._options import (
    BatchSizeOption,
    PolicyOptions,
    PreprocessInputOption,
    TableOfImages,
)
from kerasxfer.commands._quiet import quiet
from kerasxfer.data.tables.columns import TableOptions

if TYPE_CHECKING:
    import keras

    from kerasxfer.bottleneck.cache import BottleneckCache
    from kerasxfer.bottleneck.planner import CachePlan
    from kerasxfer.data.image_dataset import ImageDataset
    from kerasxfer.unfreezing.stages import Stage

app = typer.Typer(
    no_args_is_help=True, help="Plan, fill, check and clear a cache of activations at the freeze boundary."
)

Directory = Annotated[Path, Argument(help="Cache folder.", show_default=False)]
Model = Annotated[Path, Argument(help="A .keras model file.", show_default=False)]
Data = Annotated[Path, Argument(help="Class folders, or a table of images and labels.", show_default=False)]
Schedule = Annotated[
    Path | None,
    Option(help="YAML file of stages. Defaults to the layers that are trainable in MODEL.", show_default=False),
]
Dtype = Annotated[str | None, Option(help="`float16` halves the size; values are rounded.", show_default=False)]
Budget = Annotated[str | None, Option(help="Size limit of the folder, such as 20GB.", show_default=False)]


@app.command()
@quiet
@grouped
def plan(
    cache: Directory,
    model: Model,
    data: Data,
    schedule: Schedule = None,
    *,
    table: TableOfImages,
    policy: PolicyOptions,
    preprocess_input: PreprocessInputOption = None,
    batch_size: BatchSizeOption = 32,
    dtype: Dtype = None,
    budget: Budget = None,
    format: FormatOption = ResultFormat.text,
) -> None:
    """Show where each stage would be cached, how large the cache would be and what it saves. Computes nothing."""
    bottleneck, network = _cache(cache, dtype, budget, verbose=0), _loaded(model, preprocess_input)
    dataset = _dataset(data, table.said(), network, batch_size, policy)
    _print_plan(bottleneck.plan(network, dataset, _stages(schedule)), format)


@app.command()
@quiet
@grouped
def build(
    cache: Directory,
    model: Model,
    data: Data,
    schedule: Schedule = None,
    shard: Annotated[
        str | None, Option(help="This machine's part of the work: i/n, from 0/n to (n-1)/n.", show_default=False)
    ] = None,
    engine: EngineOption = EngineName.local,
    address: AddressOption = None,
    num_workers: NumWorkersOption = None,
    gpus_per_worker: Annotated[float, Option(min=0, help="GPUs for each worker.", rich_help_panel=ON_RAY)] = 0,
    *,
    table: TableOfImages,
    policy: PolicyOptions,
    preprocess_input: PreprocessInputOption = None,
    batch_size: BatchSizeOption = 32,
    dtype: Dtype = None,
    budget: Budget = None,
    format: FormatOption = ResultFormat.text,
) -> None:
    """Compute the activations of all stages in one pass. Activations already cached are kept."""
    part = _part(shard)
    refuse_without_ray(engine, address=address, num_workers=num_workers, gpus_per_worker=gpus_per_worker or None)
    if engine is EngineName.ray and shard is not None:
        raise UsageError(f"`--shard` is for builds without Ray, which divides the work itself. Received: {shard!r}")
    bottleneck, network = _cache(cache, dtype, budget), _loaded(model, preprocess_input)
    table = replace(table, images=table.images and table.images.resolve())
    dataset = _dataset(data.resolve(), table.said(), network, batch_size, policy)
    if engine is EngineName.ray:
        done = bottleneck.build_on_ray(
            network,
            dataset,
            _stages(schedule),
            address=address,
            num_workers=num_workers,
            gpus_per_worker=gpus_per_worker,
        )
    else:
        done = bottleneck.build(network, dataset, _stages(schedule), shard=part)
    _print_plan(done, format)


@app.command()
@quiet
def verify(cache: Directory, format: FormatOption = ResultFormat.text) -> None:
    """Check every shard against its hash and remove damaged ones, to be computed again. Exits with 1 if any is."""
    damaged = _existing(cache).verify()
    _print_rows(damaged, format, "All shards are sound.")
    if damaged:
        raise KerasxferError(
            f"{len(damaged)} files in '{cache}' are damaged or unfinished. The next build computes them again."
        )


@app.command()
@quiet
def ls(cache: Directory, format: FormatOption = ResultFormat.text) -> None:
    """List what is cached."""
    rows = _existing(cache).list()
    if format is ResultFormat.text:
        rows = [_brief(row) for row in rows]
    _print_rows(rows, format, "The cache is empty.")


@app.command()
@quiet
def gc(
    cache: Directory,
    budget: Budget = None,
    older_than: Annotated[
        float | None, Option(min=0, help="Remove entries unused for this many days.", show_default=False)
    ] = None,
    format: FormatOption = ResultFormat.text,
) -> None:
    """Remove leftovers of killed builds, then the least recently used entries."""
    _print_rows(_existing(cache, budget).gc(older_than=older_than), format, "Nothing to remove.")


def _cache(directory: Path, dtype: str | None = None, budget: str | None = None, verbose: int = 1) -> "BottleneckCache":
    from kerasxfer_serving.files import parse_bytes

    from kerasxfer.bottleneck.cache import BottleneckCache

    limit = None if budget is None else parse_bytes(budget)
    try:
        return BottleneckCache(directory, dtype=dtype, budget=limit, verbose=verbose)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


def _existing(directory: Path, budget: str | None = None) -> "BottleneckCache":
    if not directory.is_dir():
        raise UsageError(f"`CACHE` must be a folder. Received: '{directory}', which is not a folder.")
    return _cache(directory, budget=budget)


def _loaded(path: Path, preprocess_input: str | None) -> "keras.Model":
    from kerasxfer.keras_files import load_model

    if not path.is_file():
        raise UsageError(f"`MODEL` must be a `.keras` file. Received: '{path}', which does not exist.")
    return load_model(path, preprocess_input=preprocess_input)


def _dataset(
    data: Path, table: TableOptions, model: "keras.Model", batch_size: int, policy: PolicyOptions
) -> "ImageDataset":
    from kerasxfer_serving.images import ImagePolicy

    from kerasxfer.data.opening import without_labels

    shape = model.input_shape
    if not (isinstance(shape, tuple) and len(shape) == 4 and all(shape[1:3]) and shape[3] == 3):
        raise UsageError(f"`MODEL` must take RGB images of one size, (None, height, width, 3). Received: {shape}")
    dataset = without_labels(data, table)(
        shape[1:3], batch_size, shuffle=False, policy=ImagePolicy.from_dict(policy.fields())
    )
    if dataset.left_out:
        note(f"Skipped: {dataset.left_out}")
    return dataset


def _stages(schedule: Path | None) -> "list[Stage] | None":
    if schedule is None:
        return None
    from kerasxfer.callbacks import ProgressiveUnfreezing

    return ProgressiveUnfreezing.from_yaml(schedule).stages


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UsageError(f"`--shard` must be i/n with i from 0 to n-1, such as 0/4. Received: {text!r}")
    return int(index), int(count)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that fit on a line."""
    from kerasxfer_serving.files import format_bytes

    kept = {key: row[key] for key in ("boundary", "model", "backend", "rows")}
    return {
        **kept,
        "size": format_bytes(row["bytes"]),
        "last used": row["last_used"][:10],
        "key": row["fingerprint"][:8],
    }


def _print_plan(result: "CachePlan", format: ResultFormat) -> None:
    if format is ResultFormat.json:
        print_json({"pictures": result.pictures, "bytes": result.size, "stages": result.rows})
    else:
        print(result)


def _print_rows(rows: list[dict[str, Any]], format: ResultFormat, nothing: str) -> None:
    if format is ResultFormat.json:
        print_json(rows)
    elif rows:
        print_table(rows)
    else:
        note(nothing)
