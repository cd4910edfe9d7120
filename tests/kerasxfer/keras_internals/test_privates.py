"""Only `keras_internals` reaches behind Keras's public interface."""

import ast
from pathlib import Path

import pytest

import kerasxfer

PACKAGE = Path(kerasxfer.__file__).parent
OF_PYTHON = {"_exit", "_initializing"}  # `os._exit`; `ModuleSpec._initializing`, which importlib itself asks


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def own_names(trees):
    """Private names that the package itself defines: functions, classes, attributes, modules."""
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names


def privates_of_others(source, own=frozenset()):
    """Private attributes and modules of Keras that a source uses, also by name, as `getattr` does."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            names = [node.attr]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr"):
            names = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [name for name in modules if name.startswith("keras.src")]
        found += [name for name in names if is_private(name) and name not in own | OF_PYTHON]
    return found


def test_nothing_else_uses_privates_of_keras():
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    outside = {path: source for path, source in sources.items() if path.parent.name != "keras_internals"}
    own = own_names(map(ast.parse, outside.values()))
    found = {str(path.relative_to(PACKAGE)): privates_of_others(source, own) for path, source in outside.items()}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "model._flatten_layers()",
        "self._model.x",
        'getattr(metric, "_direction", None)',
        "import keras.src.backend",
        "from keras.src.saving import keras_saveable",
    ],
)
def test_it_would_be_found(source):
    assert privates_of_others(source)
