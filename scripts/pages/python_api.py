"""The reference of the Python names: a page for each module that people import from."""

from pathlib import Path

import griffe

# Names that others import beside those in `__all__`: results, and the pieces that the guides use.
_MODULES: dict[str, tuple[str, ...]] = {
    "kerasxfer": (),
    "kerasxfer.layers": (),
    "kerasxfer.auditing": ("result.Audit", "findings.Finding"),
    "kerasxfer.augmentation": (),
    "kerasxfer.callbacks": (),
    "kerasxfer.choosing": ("candidates.Candidate", "results.Choice", "cross_validation.CrossValidation"),
    "kerasxfer.unfreezing": (),
    "kerasxfer.export": (
        "report.Exported",
        "parity.Parity",
        "check.check_file",
        "check.Checked",
        "triton.write_triton",
        "card.write_card",
    ),
    "kerasxfer.report": ("build_report",),
    "kerasxfer.runs": ("config.TrainConfig", "training.train", "run_folder.RunFolder", "run_folder.RunRecord"),
    "kerasxfer.demo": (),
    "kerasxfer_serving": (
        "outputs.predictions.Predictions",
        "images.load_image",
        "pipeline.predict_to",
        "model.model_file.load_model_file",
        "errors.KerasxferError",
    ),
    "kerasxfer_serving.server": ("ray.deployment",),
}
# What a callback, layer or model overrides means what it means in Keras.
_FOREIGN_BASES = ("keras", "Callback", "Layer", "Model", "PyDataset")


def pages(root: Path) -> dict[str, str]:
    """Markdown by its place in the site; every public name has a docstring, or the site is not built.

    Args:
        root: The repository.

    Raises:
        ValueError: A public name has no docstring.
    """
    loader = griffe.GriffeLoader(search_paths=[root, root / "serving"])
    for package in ("kerasxfer", "kerasxfer_serving"):
        loader.load(package)
    loader.resolve_aliases(external=False)
    texts = {}
    for module, more in _MODULES.items():
        found = loader.modules_collection[module]
        exported = [str(name) for name in found.exports or () if str(name) in found.members]
        names = [*(f"{module}.{name}" for name in exported), *(f"{module}.{name}" for name in more)]
        names = [name for name in names if _is_documented(loader, name)]
        directives = "".join(f"\n::: {name}\n" for name in names)
        about = found.docstring.value.splitlines()[0] if found.docstring else ""
        texts[f"reference/python/{module}.md"] = f"# `{module}`\n\n{about}\n{directives}"
    return texts


def _is_documented(loader: griffe.GriffeLoader, name: str) -> bool:
    """Whether a name is a class or function, and not a module or a constant.

    Raises:
        ValueError: It, or a public method of it, has no docstring.
    """
    found = loader.modules_collection[name]
    found = found.final_target if found.is_alias else found
    if not (found.is_class or found.is_function):
        return False
    overriding = found.is_class and any(str(base).startswith(_FOREIGN_BASES) for base in found.bases)
    members = [] if overriding or not found.is_class else [m for m in found.members.values() if m.is_function]
    for each in (found, *members):
        if not each.name.startswith("_") and not each.has_docstring:
            raise ValueError(f"`{each.path}` is public and has no docstring.")
    return True
