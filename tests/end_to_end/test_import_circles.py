"""No two modules import each other, directly or by way of others: not inside functions or for type checkers either."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import kerasxfer_serving
import pytest

ROOTS = {
    "kerasxfer_serving": Path(kerasxfer_serving.__file__).parent,
    "kerasxfer": Path(__file__).parents[2] / "kerasxfer",
}


def modules(root: Path, package: str) -> dict[str, Path]:
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = (package, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of ours that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield from [name if name in known else node.module] if node.module in known else ()


def circles(imports: Mapping[str, set[str]]) -> list[set[str]]:
    """Groups of modules that reach each other: strongly connected components of more than one."""
    reach = {module: set(targets) for module, targets in imports.items()}
    for middle in reach:
        for module in reach:
            if middle in reach[module]:
                reach[module] |= reach[middle]
    together = {frozenset(other for other in reach[module] if module in reach[other]) for module in reach}
    return sorted((set(group) for group in together if group), key=sorted)


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"e"}}) == [{"a", "b", "c"}, {"e"}]


@pytest.mark.parametrize("inside", ["def f():\n    {}", "if TYPE_CHECKING:\n    {}", "{}"])
@pytest.mark.parametrize("how", ["import p.b", "from p import b", "from p.b import thing"])
def test_imports_are_found_wherever_they_are(tmp_path, inside, how):
    (tmp_path / "a.py").write_text(inside.format(how))
    assert list(imported(tmp_path / "a.py", {"p": tmp_path, "p.b": tmp_path})) == ["p.b"]


def test_no_modules_import_each_other():
    known = {name: path for package, root in ROOTS.items() for name, path in modules(root, package).items()}
    imports = {name: set(imported(path, known)) - {name} for name, path in known.items()}
    assert circles(imports) == []


def test_serving_imports_nothing_of_kerasxfer():
    known = modules(ROOTS["kerasxfer"], "kerasxfer")
    paths = modules(ROOTS["kerasxfer_serving"], "kerasxfer_serving").values()
    assert {name for path in paths for name in imported(path, known)} == set()
