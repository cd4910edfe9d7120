from pathlib import Path
from typing import Annotated

from kerasxfer_serving.commands.options import grouped, read_size
from kerasxfer_serving.commands.output import note
from kerasxfer_serving.errors import KerasxferError, UsageError
from typer import Argument, Option

from kerasxfer.commands._options import ImageSizeOption, PolicyOptions, TableOfImages, assignments


@grouped
def preview(
    data: Annotated[Path, Argument(help="Folder or table of images, or one image.", show_default=False)],
    augment: Annotated[
        str, Option(help="Augmentation, as for `kerasxfer train`: standard, rand, mixup=0.2, …")
    ] = "standard",
    count: Annotated[int, Option("--pictures", min=1, max=1000, help="Number of images, one per row.")] = 4,
    copies: Annotated[int, Option(min=1, max=1000, help="Augmented copies of each image.")] = 6,
    *,
    image_size: ImageSizeOption = "150",
    policy: PolicyOptions,
    table: TableOfImages,
    seed: Annotated[int, Option(min=0, help="Seed of the choice of images and of the augmentation.")] = 0,
    output: Annotated[Path, Option("--output", "-o", help="Image file to write.")] = Path("preview.png"),
) -> None:
    """Draw images next to their augmented copies."""
    size = read_size("--image-size", image_size)
    settings = assignments("--augment", augment)
    if not data.exists():
        raise UsageError(f"`DATA` must be a folder or an image. Received: {data}, which does not exist")

    from kerasxfer_serving.files import atomic_file, writing
    from kerasxfer_serving.images import ImagePolicy
    from kerasxfer_serving.inputs.walk import LeftOut
    from PIL import Image

    from kerasxfer.data.opening import image_paths
    from kerasxfer.data.preview import augmented_copies, preview_sheet, sample_images
    from kerasxfer.data.tables.source import is_table
    from kerasxfer.runs.datasets import make_augmentation, make_batch_augmentation

    if output.suffix.lower() not in Image.registered_extensions():
        raise UsageError(f"`--output` must be an image file, such as preview.png. Received: {output}")
    augmentation, in_batches, left_out = make_augmentation(settings), make_batch_augmentation(settings), LeftOut()
    root, names = data.parent, [data.name]
    if data.is_dir() or is_table(data):
        root, names = image_paths(data, table.said(), left_out)
    chosen, read_as = sample_images(names, count, seed), ImagePolicy.from_dict(policy.fields())
    rows = augmented_copies(root, chosen, augmentation, size, read_as, copies, seed, in_batches)
    if left_out:
        note(f"Skipped: {left_out}")
    if not rows:
        raise KerasxferError(f"`{data}` has no image that can be read.")
    sheet = preview_sheet(rows, ("original", f"augmented: {augment}"))
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(output) as file:
            sheet.save(file, Image.registered_extensions()[output.suffix.lower()])
    print(output)
