from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kerasxfer_serving.commands.choices import ResultFormat
from kerasxfer_serving.commands.options import FormatOption
from kerasxfer_serving.commands.output import note, print_json, print_table
from kerasxfer_serving.errors import UsageError
from typer import Argument, Option

from kerasxfer.commands._progress import track

if TYPE_CHECKING:
    from kerasxfer_serving.inputs.walk import LeftOut

    from kerasxfer.data.image_files import BadImage
    from kerasxfer.data.splits import Classes


def split(
    source: Annotated[Path, Argument(metavar="SRC", help="Class folders, or one flat folder.", show_default=False)],
    destination: Annotated[Path, Argument(metavar="DST", help="Folder to write.", show_default=False)],
    train: Annotated[
        str | None,
        Option(help="Images of each class for DST/train: a number (1000) or a fraction (0.8).", show_default=False),
    ] = None,
    validation: Annotated[str | None, Option(help="The same for DST/validation.", show_default=False)] = None,
    test: Annotated[str | None, Option(help="The same for DST/test.", show_default=False)] = None,
    pattern: Annotated[
        str | None,
        Option(
            help="Regular expression whose group finds the class in the path. Default: the folder, or in a flat folder "
            "what comes before the number, such as cat in cat.0.jpg.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, Option(help="Seed of the draw.", min=0)] = 0,
    link: Annotated[bool, Option("--link/--copy", help="Make symbolic links or copies.")] = False,
    format: FormatOption = ResultFormat.text,
) -> None:
    """Divide images into DST/train, DST/validation and DST/test, each with class folders.

    Images are drawn from each class by the seed. Those that cannot be read are left out and listed. DST must not
    exist yet, or be empty; it appears complete or not at all.

    Example: kerasxfer split PetImages pets --train 1000 --validation 400 --test 500
    """
    from kerasxfer_serving.inputs.walk import LeftOut

    from kerasxfer.data.splits import draw, find_classes, parse_amount, place, refuse_destination

    given = {"train": train, "validation": validation, "test": test}
    amounts = {name: parse_amount(f"--{name}", text) for name, text in given.items() if text is not None}
    if not amounts:
        raise UsageError("Say how many images go where: --train, --validation, --test.")
    refuse_destination(source, destination)
    not_taken = LeftOut()
    classes = find_classes(source, pattern, not_taken)
    unreadable = _take_out_unreadable(source, classes)
    subsets = draw(classes, amounts, seed)
    place(subsets, destination, link)
    _report(subsets, classes, unreadable, not_taken, format)


def _take_out_unreadable(source: Path, classes: "Classes") -> "list[BadImage]":
    from kerasxfer.data.decoding_ahead import check_images

    places = [(name, path) for name, images in classes.items() for path in images]
    paths = [classes[name][path].relative_to(source).as_posix() for name, path in places]
    unreadable = []
    for (name, path), bad in zip(places, track(check_images(source, paths), "Checking", len(paths)), strict=True):
        if bad is not None:
            unreadable.append(bad)
            del classes[name][path]
    return unreadable


def _report(
    subsets: "dict[str, Classes]",
    classes: "Classes",
    unreadable: "list[BadImage]",
    not_taken: "LeftOut",
    format: ResultFormat,
) -> None:
    counts = {
        name: {subset: len(drawn[name]) for subset, drawn in subsets.items()} | {"not used": len(images)}
        for name, images in classes.items()
    }
    for row in counts.values():
        row["not used"] -= sum(row[subset] for subset in subsets)
    if format is ResultFormat.json:
        left_out = [vars(bad) for bad in unreadable]
        print_json({"classes": counts, "left_out": left_out, "not_taken": not_taken.to_dict()})
        return
    print_table([{"class": name, **row} for name, row in counts.items()])
    if not_taken:
        note(f"Not taken for images: {not_taken}")
    if unreadable:
        note(f"Left out, because they cannot be read ({len(unreadable)}):")
    for bad in unreadable:
        note(f"  {bad}")
