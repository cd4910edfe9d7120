"""The reference of the commands, from their own declarations."""

import inspect
from collections.abc import Iterator

import typer
from kerasxfer_serving.commands import application as of_serving

from kerasxfer.commands import application as of_kerasxfer

_ARGUMENTS = "Arguments"
_OPTIONS = "Options"


def pages() -> dict[str, str]:
    """A page for each of the two programs, by its place in the site."""
    programs = {"kerasxfer": of_kerasxfer(), "kerasxfer-serving": of_serving()}
    return {f"reference/{name}.md": _program(name, app) for name, app in programs.items()}


def _program(name: str, app: typer.Typer) -> str:
    group = typer.main.get_command(app)
    text = (
        f"# `{name}`\n\n{_prose(group.help)}\n\n"
        f"`{name} COMMAND --help` says what stands here. Data go to stdout, everything else to stderr; the exit "
        "status is 0, 1 (a known failure) or 2 (wrong usage), and 130 where it was interrupted.\n"
    )
    return text + "".join(_command(title, command) for title, command in _leaves(name, group))


def _leaves(prefix: str, group: typer.core.TyperGroup) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    for name, command in group.commands.items():
        title = f"{prefix} {name}"
        if isinstance(command, typer.core.TyperGroup):
            yield from _leaves(title, command)
        else:
            yield title, command


def _command(title: str, command: typer.core.TyperCommand) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = " ".join([title, *(_metavar(each) for each in arguments), "[OPTIONS]"])
    panels: dict[str, list[str]] = {}
    for each in (*arguments, *options):
        if not each.help:
            raise ValueError(f"`{title}`: `{each.opts[0]}` has no help text.")
        panel = each.rich_help_panel or (_ARGUMENTS if each in arguments else _OPTIONS)
        panels.setdefault(panel, []).append(f"| {_name(each)} | {_cell(each.help)}{_default(each)} |\n")
    # The panels of the help, in its order: the arguments, what has no panel, then the others.
    order = sorted(panels, key=lambda panel: (panel != _ARGUMENTS, panel != _OPTIONS))
    tables = "".join(f"\n| {panel} | |\n| --- | --- |\n{''.join(panels[panel])}" for panel in order)
    return f"\n## `{title}`\n\n{_prose(command.help)}\n\n    {usage}\n{tables}"


def _name(parameter: typer.core.TyperArgument | typer.core.TyperOption) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    choices = getattr(parameter.type_descriptor.annotation, "__members__", None)
    if choices:
        return f"{names} {_cell(' | '.join(f'`{choice.value}`' for choice in choices.values()))}"
    return names


def _metavar(parameter: typer.core.TyperArgument | typer.core.TyperOption) -> str:
    name = (parameter.metavar or str(parameter.name)).upper()
    return name if parameter.required else f"[{name}]"


def _default(parameter: typer.core.TyperArgument | typer.core.TyperOption) -> str:
    default = parameter.default
    if not parameter.show_default or default in (None, False, (), []) or callable(default):
        return ""
    return f" Default: `{getattr(default, 'value', default)}`."


def _prose(text: str | None) -> str:
    if not text:
        raise ValueError("A command has no help text.")
    return inspect.cleandoc(text).replace("\b\n", "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
