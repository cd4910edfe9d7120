"""The reference of the HTTP interface, from the server's own OpenAPI document."""

import json
from typing import Any

from kerasxfer_serving.server.openapi import document

_HEAD = """# HTTP API

What `kerasxfer-serving serve` answers over HTTP, from the OpenAPI 3.1 document that the server gives out itself at
`/openapi.json`. [Serving online](../serving.md) says which protocol is for whom, and what the limits are.

"""


def page() -> str:
    """The page."""
    described = document({"MODEL": ["1"]})
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    text = _HEAD + _statuses(operations)
    for tag in dict.fromkeys(operation["tags"][0] for _, operation in operations):
        text += f"\n## {tag}\n"
        text += "".join(_operation(name, each) for name, each in operations if each["tags"] == [tag])
    text += "\n## Schemas\n"
    for name, schema in described["components"]["schemas"].items():
        text += f"\n### {name}\n\n```json\n{json.dumps(schema, indent=2, ensure_ascii=False)}\n```\n"
    return text


def _statuses(operations: list[tuple[str, dict[str, Any]]]) -> str:
    meanings: dict[str, str] = {}
    for _, operation in operations:
        meanings |= {status: answer["description"] for status, answer in operation["responses"].items()}
    rows = "".join(f"| {status} | {meanings[status]} |\n" for status in sorted(meanings))
    return (
        "## Status codes\n\n| status | meaning |\n| --- | --- |\n"
        f'{rows}\nErrors have the body `{{"error": "…"}}`. The `status` of one image among several is another thing: '
        "[rows](rows.md#status).\n"
    )


def _operation(name: str, operation: dict[str, Any]) -> str:
    text = f"\n### `{name}`\n\n{operation['summary']}\n\n"
    if parameters := operation["parameters"]:
        text += "".join(f"- `{each['name']}`, in the {each['in']}\n" for each in parameters) + "\n"
    if "requestBody" in operation:
        kinds = operation["requestBody"]["content"]
        text += f"Body: {', '.join(f'`{kind}`{_schema(content)}' for kind, content in kinds.items())}.\n\n"
    answers = operation["responses"]
    kinds = answers["200"]["content"]
    text += f"Answer: {', '.join(f'`{kind}`{_schema(content)}' for kind, content in kinds.items())}. "
    return text + f"Errors: {', '.join(status for status in answers if status != '200')}.\n"


def _schema(content: dict[str, Any]) -> str:
    reference = content["schema"].get("$ref", "")
    name = reference.rpartition("/")[2]
    return f" ([{name}](#{name.lower()}))" if name else ""
