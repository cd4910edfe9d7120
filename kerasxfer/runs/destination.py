"""Where a run may be written."""

from dataclasses import asdict
from pathlib import Path

from kerasxfer_serving.errors import KerasxferError, UsageError

from kerasxfer.runs.config import TrainConfig
from kerasxfer.runs.run_folder import RunFolder, RunState


def check_destination(folder: RunFolder, config: TrainConfig, *, resume: bool, overwrite: bool) -> None:
    """Refuse what would lose another run, or files that are no run's, or mix anything into this one."""
    if resume and overwrite:
        raise UsageError(
            "`--resume` and `--overwrite` exclude each other: one continues a run, the other starts it over."
        )
    _refuse_overlap(folder.path, config)
    state = folder.state
    if state is None:
        if not folder.vacant:
            raise KerasxferError(
                f"`{folder.path}` must be empty, missing or a run folder: it has no config.json of a run. Choose "
                "another `--out`."
            )
    elif resume:
        _check_same_run(folder, state, config)
    elif not overwrite:
        raise KerasxferError(
            f"`{folder.path}` holds a run. Continue with `--resume`, discard it with `--overwrite`, or choose another "
            "`--out`."
        )


def _refuse_overlap(run: Path, config: TrainConfig) -> None:
    out = run.resolve()
    images = {"DATA": config.data, "--validation": config.validation, "--test": config.test}
    for option, value in {**images, "--weights": config.weights}.items():
        path = Path(value or "").resolve()
        if value and path.exists() and path.is_relative_to(out):
            raise UsageError(f"`--out` must not hold what a run is made from. Received: {option} '{value}' in '{run}'")
    for value in filter(None, images.values()):
        if out.is_relative_to(Path(value).resolve()):
            raise UsageError(f"`--out` must be outside the image folders. Received: '{run}', which is in '{value}'")


def _check_same_run(folder: RunFolder, state: RunState, wanted: TrainConfig) -> None:
    if state is RunState.finished:
        raise KerasxferError(f"`{folder.path}` is finished. Discard it with `--overwrite` to train again.")
    before = asdict(folder.read().config)
    changed = [f"{key} {before[key]!r} → {value!r}" for key, value in asdict(wanted).items() if before[key] != value]
    if changed:
        raise KerasxferError(
            f"`--resume` takes the options that `{folder.path}` was started with. Received: {', '.join(changed)}"
        )
