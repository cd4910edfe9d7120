from pathlib import Path
from typing import Annotated

from kerasxfer_serving.errors import KerasxferError, UsageError
from typer import Argument, Option

from kerasxfer.commands import _options


def preview(
    data: Annotated[Path, Argument(help="Folder of pictures, or one picture.", show_default=False)],
    augment: Annotated[str, Option(help="`standard`, or rotation_range=40,zoom_range=0.2,…")] = "standard",
    pictures: Annotated[int, Option(min=1, help="Pictures, a row each.")] = 4,
    copies: Annotated[int, Option(min=1, help="Augmented copies of each.")] = 6,
    image_size: Annotated[str, Option(help="Side, or HEIGHTxWIDTH, in pixels.")] = "150",
    resize: Annotated[str, Option(help="stretch, crop or pad to the size.")] = "stretch",
    seed: Annotated[int, Option(help="Of the choice of pictures and of the augmentation.")] = 0,
    output: Annotated[Path, Option("--output", "-o", help="Picture file to write.")] = Path("preview.png"),
) -> None:
    """Draw pictures beside their augmented copies."""
    size = _options.image_size(image_size)
    settings = _options.assignments("--augment", augment)
    if not data.exists():
        raise UsageError(f"`DATA` must be a folder or a picture. Received: {data}, which does not exist")

    from kerasxfer_serving.images import ImagePolicy

    from kerasxfer.layers import Augmentation
    from kerasxfer.report import thumbnails

    try:
        augmentation, policy = Augmentation(**settings), ImagePolicy.from_dict({"resize": resize})
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
    paths = thumbnails.sample_pictures(data, pictures, seed)
    rows = thumbnails.augmented(paths, augmentation, size, policy, copies, seed)
    if not rows:
        raise KerasxferError(f"`{data}` has no picture that can be read.")
    captions = [str(path.relative_to(data)) if path != data else path.name for path, _ in rows]
    sheet = thumbnails.contact_sheet(
        list(zip(captions, (images for _, images in rows), strict=True)), ("original", f"augmented: {augment}")
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(output)
    print(output)
