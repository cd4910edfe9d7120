from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kerasxfer_serving.commands import _output
from kerasxfer_serving.errors import UsageError
from typer import Argument, Option

if TYPE_CHECKING:
    from kerasxfer.data.image_files import BadImage
    from kerasxfer.data.splits import Classes


def split(
    source: Annotated[Path, Argument(metavar="SRC", help="Class folders, or one flat folder.", show_default=False)],
    destination: Annotated[Path, Argument(metavar="DST", help="Folder to write.", show_default=False)],
    train: Annotated[str | None, Option(help="Pictures of each class, or a share of them.", show_default=False)] = None,
    validation: Annotated[str | None, Option(help="Likewise.", show_default=False)] = None,
    test: Annotated[str | None, Option(help="Likewise.", show_default=False)] = None,
    pattern: Annotated[
        str | None,
        Option(
            help="Regular expression on the path, with a group for the class. Otherwise: the folder, or in a flat "
            "folder what comes before the number, as cat in cat.0.jpg.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, Option(help="Of the draw.", min=0)] = 0,
    link: Annotated[bool, Option("--link/--copy", help="Symbolic links in place of copies.")] = False,
    format: Annotated[_output.Format, Option(help="How to print the result.")] = _output.Format.text,
) -> None:
    """Divide pictures into DST/train, DST/validation and DST/test, each with class folders.

    Pictures are drawn from each class by the seed. Those that cannot be read are left out and listed. DST must not
    exist yet, or be empty; it appears complete or not at all.

    Example: kerasxfer split PetImages pets --train 1000 --validation 400 --test 500
    """
    from kerasxfer.data.splits import draw, find_classes, parse_amount, place, refuse_destination

    given = {"train": train, "validation": validation, "test": test}
    amounts = {name: parse_amount(f"--{name}", text) for name, text in given.items() if text is not None}
    if not amounts:
        raise UsageError("Say how many pictures go where: --train, --validation, --test.")
    refuse_destination(source, destination)
    classes = find_classes(source, pattern)
    left_out = _take_out_unreadable(source, classes)
    subsets = draw(classes, amounts, seed)
    place(subsets, destination, link)
    _report(subsets, classes, left_out, format)


def _take_out_unreadable(source: Path, classes: "Classes") -> "list[BadImage]":
    from rich.progress import track

    from kerasxfer.data.decoding_ahead import check_images

    places = [(name, path) for name, pictures in classes.items() for path in pictures]
    paths = [str(classes[name][path].relative_to(source)) for name, path in places]
    left_out = []
    console, checks = _output.console(), check_images(source, paths)
    checked = track(checks, "Checking", len(paths), console=console, transient=True, disable=not console.is_terminal)
    for (name, path), bad in zip(places, checked, strict=True):
        if bad is not None:
            left_out.append(bad)
            del classes[name][path]
    return left_out


def _report(
    subsets: "dict[str, Classes]", classes: "Classes", left_out: "list[BadImage]", format: _output.Format
) -> None:
    counts = {
        name: {subset: len(drawn[name]) for subset, drawn in subsets.items()} | {"not used": len(pictures)}
        for name, pictures in classes.items()
    }
    for row in counts.values():
        row["not used"] -= sum(row[subset] for subset in subsets)
    if format is _output.Format.json:
        _output.print_json({"classes": counts, "left_out": [vars(bad) for bad in left_out]})
        return
    _output.print_table([{"class": name, **row} for name, row in counts.items()])
    if left_out:
        _output.note(f"Left out, for they cannot be read ({len(left_out)}):")
    for bad in left_out:
        _output.note(f"  {bad}")
