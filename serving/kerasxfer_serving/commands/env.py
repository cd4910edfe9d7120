from collections.abc import Mapping
from typing import Any

from kerasxfer_serving.commands import choices, options, output


def env(format: options.FormatOption = choices.ResultFormat.text) -> None:
    """Show versions, the devices that start, and how to fix what is broken."""
    from kerasxfer_serving.diagnostics.doctor import diagnose

    show(diagnose(), format)


def show(found: Mapping[str, Any], format: choices.ResultFormat) -> None:
    """Print a diagnosis; as text, one block to paste into a bug report."""
    if format is choices.ResultFormat.json:
        output.print_json(found)
        return
    for name, text in _lines(found):
        output.print_line(f"{name:<26} {text}")
    for problem in found["problems"]:
        output.print_line(f"problem: {problem['what']}\n    {problem['command']}")
    if not found["problems"]:
        output.print_line("no problem found")


def _lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    cpu, runtime = found["cpu"], found["onnxruntime"]
    lines = [*found["versions"].items(), *found["platform"].items()]
    lines += [(name, str(value)) for name, value in found.get("keras", {}).items()]
    lines.append(("cpu", f"{cpu['model']}, {cpu['available']} of {cpu['cores']} cores, {found['memory_gib']} GiB"))
    lines += [("gpu", ", ".join(gpu.values())) for gpu in found["gpus"]]
    if found["cuda"]["driver"]:
        lines.append(("cuda of the driver", found["cuda"]["driver"]))
    if runtime and runtime["built_for_cuda"]:
        lines.append(("onnxruntime's cuda", runtime["built_for_cuda"]))
    for provider, probe in found["providers"].items():
        lines.append((provider, "starts" if probe["starts"] else f"does not start: {probe['reason']}"))
        lines += [
            (f"  {name}", f"{library['version']}  {library['path']}")
            for name, library in probe.get("loaded", {}).items()
        ]
    return lines
