"""How results show themselves in a notebook: as tables."""

from collections.abc import Iterable, Mapping
from html import escape
from itertools import islice


def html_table(rows: Iterable[Mapping[str, object]], *, caption: str = "", most: int = 20) -> str:
    """Rows as an HTML table for `_repr_html_`.

    Args:
        rows: Cells by column; the first row names the columns. Numbers stand on the right, `None` is an empty cell.
        caption: What stands below it. Defaults to nothing.
        most: Number of rows that are shown; the rest is left out. Defaults to `20`.

    Example:

    ```python
    html = html_table([{"path": "a.jpg", "probability": 0.9}], caption="1 image")
    assert "<th>path</th>" in html
    ```
    """
    shown = list(islice(rows, most))
    header = "".join(f"<th>{escape(str(name))}</th>" for name in (shown[0] if shown else ()))
    lines = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in shown)
    below = f"<p>{escape(caption)}</p>" if caption else ""
    return f"<table><thead><tr>{header}</tr></thead><tbody>{lines}</tbody></table>{below}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td style="text-align: right">{value:.4g}</td>'
    side = "right" if isinstance(value, int) else "left"
    return f'<td style="text-align: {side}">{"" if value is None else escape(str(value))}</td>'
