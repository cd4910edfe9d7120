"""The reference of the rows that prediction writes, with the codes as the decoder declares them."""

from kerasxfer_serving.image_io.decoding import ERROR_CODES
from kerasxfer_serving.outputs.predictions import columns

_PAGE = """# Rows and status codes

`predict` writes one row for each input, in the order of the inputs, whatever is wrong with them. CSV, JSON Lines and
Parquet hold the same columns; [`POST /predict`](http.md) gives the same rows.

## Columns

| column | type | meaning |
| --- | --- | --- |
| `path` | text | as given or found, unchanged |
| `status` | text | `ok`, or what is wrong; see below |
| `message` | text | the same for a person; or that of an animation the first frame was taken; mostly empty |
| `labels` | list of texts | of a multi-label model: those that reach their thresholds; in CSV with `\\|` between them |
| `labels` | list of text | with several labels to an image: those that reach their thresholds; `cat\\|outdoor` in CSV |
| `label`, `probability` | text, number | the most probable class; empty where `status` is not `ok` |
| `label_2`, `probability_2`, … | | the next ones, with `--top-k` |
| `width`, `height` | integer | of the image as it is meant to be seen, before it is resized |
| `probabilities` | list of numbers | with `--all-probabilities`: one for each class, in the order of the manifest |
| `features` | list of numbers | with `--features`: the input of the last dense layer |

## Status

| `status` | meaning |
| --- | --- |
| `ok` | the row has an answer |
{codes}| `not_finite` | the model gave a value that is not a number |
| `error` | something else; `message` says what |

## Exit status of the command

| status | meaning |
| --- | --- |
| 0 | every input has an answer, or `--ignore-errors` |
| 1 | some have not, or the run failed |
| 2 | wrong usage |
| 130 | interrupted; `--resume` goes on |
"""


def page() -> str:
    """The page.

    Raises:
        ValueError: It lacks a column that rows have.
    """
    every = columns(("a", "b", "c"), 2, multi_label=True, all_probabilities=True, features=True)
    if missing := [name for name in every if f"`{name}`" not in _PAGE]:
        raise ValueError(f"The page of rows lacks {missing}.")
    return _PAGE.format(codes="".join(f"| `{code}` | {meaning} |\n" for code, meaning in ERROR_CODES.items()))
