from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kerasxfer_serving.commands.choices import ResultFormat
from kerasxfer_serving.commands.options import FormatOption, grouped
from kerasxfer_serving.commands.output import note, print_json, print_table
from kerasxfer_serving.errors import UsageError
from typer import Argument, Option

from kerasxfer.commands import _options as options
from kerasxfer.commands._progress import track
from kerasxfer.data.tables.columns import refuse_table_options
from kerasxfer.data.tables.source import is_table

if TYPE_CHECKING:
    import numpy as np
    from kerasxfer_serving.inputs.walk import LeftOut
    from numpy.typing import NDArray

    from kerasxfer.data.image_files import BadImage
    from kerasxfer.data.image_rows import ImageRows


@grouped
def split(
    source: Annotated[
        Path,
        Argument(metavar="SRC", help="Class folders, one flat folder, or a table of images.", show_default=False),
    ],
    destination: Annotated[Path, Argument(metavar="DST", help="Output folder.", show_default=False)],
    train: Annotated[
        str | None,
        Option(help="Images per class for DST/train: a number (1000) or a fraction (0.8).", show_default=False),
    ] = None,
    validation: Annotated[str | None, Option(help="The same for DST/validation.", show_default=False)] = None,
    test: Annotated[str | None, Option(help="The same for DST/test.", show_default=False)] = None,
    pattern: Annotated[
        str | None,
        Option(
            help="Regular expression whose group is the class in a path. Defaults to the folder's name or, in a flat "
            "folder, to what precedes the number, such as cat in cat.0.jpg.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, Option(help="Seed of the random draw.", min=0)] = 0,
    link: Annotated[bool, Option("--link/--copy", help="Link to the images, or copy them.")] = False,
    apply: Annotated[
        Path | None,
        Option(help="Decisions table of `kerasxfer audit`: images to leave out, labels to change.", show_default=False),
    ] = None,
    tables: Annotated[
        bool,
        Option("--tables", help="Write DST/train.csv, … that list the images where they are, as for a table."),
    ] = False,
    *,
    table: options.TableWithSplit,
    format: FormatOption = ResultFormat.text,
) -> None:
    """Split images into train, validation and test sets, as class folders or as tables.

    Images are drawn at random from each class, and groups stay together. Images that cannot be read are left out and
    listed. A table is split into DST/train.csv, DST/validation.csv and DST/test.csv, without copying images. DST must
    be new or empty; it appears complete or not at all.

    Examples: kerasxfer split PetImages pets --train 1000 --validation 400 --test 500

    kerasxfer split labels.csv divided --images photos --train 0.8 --test 0.2 --group-column patient
    """
    from kerasxfer_serving.inputs.walk import LeftOut

    from kerasxfer.data import split_tables, splits
    from kerasxfer.data.decisions import Decisions

    given = {"train": train, "validation": validation, "test": test}
    amounts = {name: splits.parse_amount(f"--{name}", text) for name, text in given.items() if text is not None}
    if not amounts:
        raise UsageError("Give at least one of --train, --validation, --test.")
    splits.refuse_destination(source, destination)
    said = table.said()
    not_taken = LeftOut()
    decisions = Decisions.read(apply) if apply else None
    if decisions and decisions.undecided:
        note(f"`{apply}` has {decisions.undecided:,} rows without a decision.")
    if is_table(source):
        _refuse("--pattern", pattern, "a table has its labels in a column")
        _refuse("--link", link, "a table lists the images where they are")
        rows, columns = split_tables.read_for_split(source, said)
        if decisions:
            rows, columns = split_tables.decided(rows, columns, decisions)
        subsets, unreadable = _draw(rows, amounts, seed)
        split_tables.write_tables(rows, columns, subsets, destination)
    else:
        refuse_table_options(source, said)
        _refuse("--link", link and tables, "`--tables` lists the images where they are")
        classes = splits.find_classes(source, pattern, not_taken)
        rows, targets = splits.rows_of(classes, source, table.group_pattern)
        if decisions:
            decisions.kept(rows)  # raises if the table belongs to another folder
            rows, targets = splits.rows_of(splits.decided(classes, decisions), source, table.group_pattern)
        subsets, unreadable = _draw(rows, amounts, seed)
        if tables:
            split_tables.write_tables(rows, split_tables.columns_of(rows), subsets, destination)
        else:
            splits.place(rows, targets, subsets, destination, link)
    _report(rows, subsets, unreadable, not_taken, format)


def _refuse(option: str, value: object, reason: str) -> None:
    if value:
        raise UsageError(f"`{option}` does not apply here: {reason}. Leave it out.")


def _draw(
    rows: "ImageRows", amounts: dict[str, int | float], seed: int
) -> "tuple[dict[str, NDArray[np.intp]], dict[int, BadImage]]":
    """Draw the rows of each subset from the readable images; return them and the unreadable ones."""
    import numpy as np

    from kerasxfer.data.decoding_ahead import check_images
    from kerasxfer.data.splits import draw

    checks = track(check_images(rows.root, rows.paths), "Checking", len(rows.paths))
    unreadable = {row: bad for row, bad in enumerate(checks) if bad is not None}
    readable = np.array([row not in unreadable for row in range(len(rows.paths))])
    drawn = draw(rows.take(readable), amounts, seed)
    return {subset: np.flatnonzero(readable)[chosen] for subset, chosen in drawn.items()}, unreadable


def _report(
    rows: "ImageRows",
    subsets: "dict[str, NDArray[np.intp]]",
    unreadable: "dict[int, BadImage]",
    not_taken: "LeftOut",
    format: ResultFormat,
) -> None:
    import numpy as np

    from kerasxfer.data.division import Division

    everything = np.arange(len(rows.paths))
    readable = ~np.isin(everything, list(unreadable))
    parts = {subset: np.isin(everything, chosen) for subset, chosen in subsets.items()}
    not_used = readable & ~np.any([*parts.values()], axis=0)
    counts = {name: rows.take(chosen).class_counts for name, chosen in {**parts, "not used": not_used}.items()}
    classes = {
        name: {part: int(count[at]) for part, count in counts.items()} for at, name in enumerate(rows.class_names)
    }
    divisions = {part: Division.of(rows.take(readable), chosen[readable]) for part, chosen in parts.items()}
    if format is ResultFormat.json:
        left_out = [vars(bad) for bad in unreadable.values()]
        parts_shown = {part: asdict(division) for part, division in divisions.items()}
        print_json({"classes": classes, "parts": parts_shown, "left_out": left_out, "not_taken": not_taken.to_dict()})
        return
    print_table([{"class": name, **row} for name, row in classes.items()])
    for part, division in divisions.items():
        note(f"{part}: {division}")
    if not_taken:
        note(f"Skipped: {not_taken}")
    if unreadable:
        note(f"Left out, because they cannot be read ({len(unreadable)}):")
    for bad in unreadable.values():
        note(f"  {bad}")
