from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kerasxfer_serving.commands.choices import ResultFormat
from kerasxfer_serving.commands.options import FormatOption, grouped, read_size
from kerasxfer_serving.commands.output import note, print_json, print_table
from typer import Argument, Option

from kerasxfer.commands import _options as options
from kerasxfer.commands._progress import track

if TYPE_CHECKING:
    from kerasxfer.auditing.result import Audit

_SHOWN = 5


@grouped
def audit(
    data: Annotated[
        Path, Argument(metavar="DATA", help="Class folders, or a table of images and labels.", show_default=False)
    ],
    validation: Annotated[
        Path | None, Option(help="Validation images, to check for leaks.", show_default=False)
    ] = None,
    test: Annotated[Path | None, Option(help="Test images, to check for leaks.", show_default=False)] = None,
    output: Annotated[
        Path, Option("--output", "-o", help="Folder for audit.html, audit.json and decisions.csv.")
    ] = Path("audit"),
    cache: Annotated[
        Path | None,
        Option(
            help="Folder for cached features; share it with `train`. Defaults to OUTPUT/cache.",
            show_default=False,
        ),
    ] = None,
    *,
    image_size: options.ImageSizeOption = "150",
    policy: options.PolicyOptions,
    network: options.BackboneOptions,
    weights: Annotated[str, Option(help="`imagenet` or a weights file.", rich_help_panel=options.MODEL)] = "imagenet",
    batch_size: options.BatchSizeOption = 32,
    seed: Annotated[int, Option(min=0, help="Seed of the cross-validation folds.")] = 0,
    format: FormatOption = ResultFormat.text,
) -> None:
    """Find wrong labels, copies, leaks, outliers and bad files.

    Features are computed once, into the cache that training reads. The result is a page to look through and a table of
    decisions for you to fill in, which `split --apply` and `train --exclude` follow. No file is moved, renamed or
    relabelled.

    Example: kerasxfer audit pets/train --validation pets/validation --cache cache -o audit
    """
    from kerasxfer_serving.images import ImagePolicy

    from kerasxfer.auditing.audit import audit as look_through

    found = look_through(
        data,
        validation,
        test,
        output=output,
        cache=cache,
        backbone=network.backbone,
        image_size=read_size("--image-size", image_size),
        weights=weights,
        backbone_output=network.backbone_output,
        backbone_kwargs=network.arguments,
        preprocess=network.preprocess,
        policy=ImagePolicy.from_dict(policy.fields()),
        batch_size=batch_size,
        seed=seed,
        track=track,
    )
    if format is ResultFormat.json:
        from kerasxfer.auditing.writing import to_dict

        print_json({"output": str(output), **to_dict(found)})
    else:
        _report(found, output)


def _report(found: "Audit", output: Path) -> None:
    rows = [
        {
            "set": each.subset,
            "image": found.shortened(each.path),
            "problem": each.problem,
            "suggestion": each.suggestion,
        }
        for findings in found.lists.values()
        for each in findings[:_SHOWN]
    ]
    note("Listed: " + ", ".join(f"{len(findings):,} {name}" for name, findings in found.lists.items()) + ". The first:")
    if rows:
        print_table(rows)
    for each in found.clean:
        note(str(each))
    for text in found.notes:
        note(text)
    print(output / "audit.html")
