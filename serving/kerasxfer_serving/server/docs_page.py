"""The OpenAPI document as a page without scripts, so that it needs nothing from elsewhere."""

import re
from html import escape
from itertools import groupby

from kerasxfer_serving import __version__
from kerasxfer_serving.server.openapi import OPERATIONS, Operation

_CODE = re.compile("`([^`]+)`")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>HTTP interface · kerasxfer-serving</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="static/page.css">
</head>
<body>
<header>
<h1>HTTP interface</h1>
<p>kerasxfer-serving {version}. For programs: <a href="openapi.json">openapi.json</a>. For trying:
<a href="./">drop images</a>.</p>
</header>
<main>
{groups}
</main>
</body>
</html>
"""


def render_docs() -> str:
    """The page."""
    return _PAGE.format(
        version=escape(__version__),
        groups="\n".join(_group(name, list(group)) for name, group in groupby(OPERATIONS, lambda item: item.group)),
    )


def _group(name: str, operations: list[Operation]) -> str:
    items = "\n".join(_operation(operation) for operation in operations)
    return f"<section><h2>{escape(name)}</h2>\n<dl class=operations>\n{items}\n</dl></section>"


def _marked(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _operation(operation: Operation) -> str:
    query = f"?{'&'.join(f'{name}=' for name in operation.query)}" if operation.query else ""
    bodies = ", ".join(f"<code>{escape(kind)}</code>" for kind in operation.body or ())
    statuses = ", ".join(str(status) for status in (200, *operation.statuses))
    return (
        f"<div><dt><code><b>{operation.method.upper()}</b> {escape(operation.path)}<wbr>{escape(query)}</code></dt>"
        f"<dd>{_marked(operation.summary)}"
        + (f" Body: {bodies}." if bodies else "")
        + f" <span class=quiet>Answers {statuses}.</span></dd></div>"
    )
