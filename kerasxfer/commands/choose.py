from pathlib import Path
from typing import Annotated

from kerasxfer_serving.commands.choices import ResultFormat
from kerasxfer_serving.commands.options import FormatOption, grouped, read_size
from kerasxfer_serving.commands.output import note, print_json, print_line, print_table
from kerasxfer_serving.errors import UsageError
from kerasxfer_serving.files import require_writable, writing
from typer import Argument, Option

from kerasxfer.commands import _options as options

_CANDIDATES, _SPEED = "Candidates", "Speed"
_PAGE_ALONE = ("p", "fp32 file", "same class")  # a terminal has 80 columns


@grouped
def choose(
    data: Annotated[
        Path, Argument(metavar="DATA", help="Class folders, or a table of images and labels.", show_default=False)
    ],
    candidates: Annotated[
        str, Option(help="Models of keras.applications, or DemoVGG.", rich_help_panel=_CANDIDATES)
    ] = "VGG16,MobileNet,MobileNetV2,InceptionV3",
    image_sizes: Annotated[
        str, Option(help="Input sizes to try: HEIGHTxWIDTH, or one number for a square.", rich_help_panel=_CANDIDATES)
    ] = "150,224",
    weights: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=FILE",
            help="Weights file for a candidate, instead of ImageNet's; may be repeated.",
            rich_help_panel=_CANDIDATES,
            show_default=False,
        ),
    ] = None,
    backbone_output: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=LAYER",
            help="Inner layer of a candidate to take features from; may be repeated.",
            rich_help_panel=_CANDIDATES,
            show_default=False,
        ),
    ] = None,
    backbone_args: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=ARGS",
            help="Extra arguments for a candidate, such as MobileNet=alpha=0.75; may be repeated.",
            rich_help_panel=_CANDIDATES,
            show_default=False,
        ),
    ] = None,
    *,
    table: options.TableWithSplit,
    multi_label: Annotated[
        bool, Option("--multi-label", help="Images have any number of labels; candidates are compared by mAP.")
    ] = False,
    folds: Annotated[int, Option(min=2, help="Number of cross-validation folds.")] = 5,
    min_rate: Annotated[
        float | None,
        Option(
            help="Images per second that the exported model must reach on this machine.",
            rich_help_panel=_SPEED,
            show_default=False,
        ),
    ] = None,
    no_rates: Annotated[
        bool, Option("--no-rates", help="Skip the export and its speed measurement.", rich_help_panel=_SPEED)
    ] = False,
    duration: Annotated[float, Option(help="Seconds to measure each rate for.", rich_help_panel=_SPEED)] = 6.0,
    try_rates: Annotated[
        bool, Option("--try-rates", help="Try three learning rates on the last block of the recommended backbone.")
    ] = False,
    cache: options.CacheOption = None,
    seed: Annotated[int, Option(min=0, help="Seed of the folds.")] = 0,
    out: Annotated[Path, Option("--out", "-o", help="Output folder.")] = Path("choose"),
    format: FormatOption = ResultFormat.text,
) -> None:
    """Compare backbones before training: out-of-fold accuracy, size, and speed on this machine.

    Each candidate's features are computed once, into the cache that `train` reads. A logistic head is cross-validated
    on them, and the exported model is timed in fp32 and int8 from image files to answers. Writes choose.html,
    choose.json, choose.csv and pareto.svg to OUT.

    Example: kerasxfer choose pets/train --candidates MobileNet,VGG16 --image-sizes 150 --min-rate 100
    """
    from kerasxfer.choosing.candidates import make_candidates

    tried = make_candidates(
        [name.strip() for name in candidates.split(",")],
        [read_size("--image-sizes", text.strip()) for text in image_sizes.split(",")],
        weights=_by_name("--weights", weights),
        backbone_outputs=_by_name("--backbone-output", backbone_output),
        backbone_args={
            name: options.assignments("--backbone-args", text)
            for name, text in _by_name("--backbone-args", backbone_args).items()
        },
    )
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        require_writable(out / "choose.json")

    from kerasxfer.choosing.advice import advice
    from kerasxfer.choosing.choice import choose
    from kerasxfer.choosing.page import write_choice

    choice = choose(
        data,
        tried,
        min_rate=min_rate,
        table=table.said(),
        multi_label=multi_label,
        folds=folds,
        cache=cache or out / "cache",
        rates=not no_rates,
        duration=duration,
        try_rates=try_rates,
        seed=seed,
        say=note,
    )
    page = write_choice(choice, out, str(data))
    if format is ResultFormat.json:
        print_json(choice.to_dict())
        return
    print_table([{name: text for name, text in row.items() if name not in _PAGE_ALONE} for row in choice.shown()])
    for sentence in advice(choice):
        print_line(sentence)
    if choice.command:
        print_line(f"\n{choice.command}\n")
    note(f"Page: {page}")


def _by_name(option: str, given: list[str] | None) -> dict[str, str]:
    """Read the values of an option that is repeated for each candidate."""
    values = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"`{option}` takes a candidate's name and a value: MobileNet=…. Received: {text}")
        values[name] = value
    return values
