"""Files of the repository that are pages of the site though they lie outside of docs/, and links to them."""

import json
import os
import posixpath
import re
from pathlib import Path

_PLACES = {
    "README.md": "index.md",
    "serving/README.md": "predicting.md",
    "examples/README.md": "tutorials/index.md",
    "examples/quickstart.ipynb": "tutorials/quickstart.md",
    "benchmarks/results": "performance.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|/|#)([^)#\s]+)(?=[)#])")


def pages(root: Path) -> dict[str, str]:
    """Markdown by its place in the site.

    Args:
        root: The repository.
    """
    texts = {
        place: (root / name).read_text(encoding="utf-8")
        for name, place in _PLACES.items()
        if name.endswith(".md") and name != "README.md"  # the site has a first page of its own
    }
    for path in sorted(root.glob("benchmarks/results/*.*")):  # pages, and the samples that they link to
        texts[f"performance/{path.name}"] = path.read_text(encoding="utf-8")
    texts["tutorials/quickstart.md"] = _notebook(root / "examples/quickstart.ipynb")
    for path in sorted(root.glob("examples/[!_]*.py")):
        texts[f"tutorials/{path.stem}.md"] = _recipe(path)
    return texts


def with_links_of_the_site(markdown: str, place: str) -> str:
    """A page with links to other files of the repository turned into links to their pages.

    Args:
        markdown: The page.
        place: Where it lies in the site.
    """
    home = posixpath.dirname(_origin(place))

    def replace(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(home, match[1]))
        return os.path.relpath(_place(target), posixpath.dirname(place) or ".")

    return _LINK.sub(replace, markdown)


def _place(name: str) -> str:
    """The place in the site of a file of the repository."""
    if name in _PLACES:
        return _PLACES[name]
    if name.startswith("benchmarks/results/"):
        return f"performance/{posixpath.basename(name)}"
    if name.startswith("examples/") and name.endswith(".py"):
        return f"tutorials/{posixpath.basename(name).removesuffix('.py')}.md"
    return name.removeprefix("docs/")


def _origin(place: str) -> str:
    """The file of the repository that a page is made of."""
    origins = {there: name for name, there in _PLACES.items() if Path(name).suffix and there != "index.md"}
    if place in origins:
        return origins[place]
    if place.startswith("performance/"):
        return f"benchmarks/results/{posixpath.basename(place)}"
    return f"docs/{place}"


def _notebook(path: Path) -> str:
    """A notebook as a page: its text and its code."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    page = "\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in parts)
    where = f"This page is the notebook `examples/{path.name}`: open it in Jupyter or Colab to run it."
    title, _, rest = page.partition("\n")
    return f"{title}\n\n{where}\n{rest}\n"


def _recipe(path: Path) -> str:
    """A recipe as a page: its docstring, then its code."""
    _, docstring, code = path.read_text(encoding="utf-8").split('"""', 2)
    title, _, text = docstring.strip().partition("\n")
    return (
        f"# {path.stem.replace('_', ' ').capitalize()}\n\n{title}\n{text}\n\n"
        f"    python examples/{path.name} --quick    # on synthetic images, within a minute\n\n"
        f'```python title="examples/{path.name}"\n{code.strip()}\n```\n'
    )
