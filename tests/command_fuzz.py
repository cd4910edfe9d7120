"""Every wrong value of every option of a command line, made from the declarations of its own commands.

```python
VALID = {"inspect": {"model": ["model.onnx"]}}  # what makes each command run, by the names of its parameters


@pytest.mark.parametrize("case", command_fuzz.cases(application()), ids=str)
def test_a_wrong_value_ends_in_a_sentence(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command_fuzz.make_files(tmp_path)
    for arguments in case.command_lines(VALID[" ".join(case.command)]):
        command_fuzz.require_sentence(command_fuzz.run(application, "kerasxfer-serving", arguments))
```
"""

import functools
import inspect
import io
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import typer
from kerasxfer_serving.commands import output

Values = Mapping[str, Sequence[str]]

_LONG = "a" * 5000
_NOT_UTF_8 = os.fsdecode(b"caf\xe9")
_NUMBERS = ("", "x", "-1", "0", "1.5", "nan", "inf", "1e999", "9" * 30, "0x10", "٣")
_WORDS = ("", " ", "nonsense", "-", "--", "x,y=z", "1x2x3", "0x0", "\x1b[31m", "💥", _NOT_UTF_8, _LONG)
_PATHS = ("", "missing", "missing/below", "empty", "garbage", "garbage/below", "folder", "/dev/null", _NOT_UTF_8, _LONG)


class Outcome(NamedTuple):
    """How a command ended."""

    arguments: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


class Parameter(NamedTuple):
    """A parameter of a command: its name, its option (`None` for an argument), and the type of its values."""

    name: str
    option: str | None
    type: Any

    def wrong_values(self) -> Sequence[str | None]:
        """Values that are wrong, or may be; `None` for none at all."""
        if self.type is bool:
            return (None,)
        if self.type in (int, float):
            return (None, *_NUMBERS)
        if isinstance(self.type, type) and issubclass(self.type, Enum):
            return (None, "", "nonsense", f"{next(iter(self.type)).value} ")
        if self.type is Path:
            return (None, *_PATHS)
        return (None, *dict.fromkeys((*_WORDS, *_NUMBERS)), *_PATHS[1:])


@dataclass(frozen=True)
class Case:
    """One parameter of one command, to be given wrong values."""

    command: tuple[str, ...]
    parameters: tuple[Parameter, ...] = field(repr=False)
    wrong: Parameter

    def __str__(self) -> str:
        return "-".join((*self.command, self.wrong.name))

    def command_lines(self, valid: Values) -> Iterator[tuple[str, ...]]:
        """The command lines that `valid` makes, with a wrong value each in place of the parameter's."""
        for value in self.wrong.wrong_values():
            yield self.command_line({**valid, self.wrong.name: [] if value is None else [value]})

    def command_line(self, values: Values) -> tuple[str, ...]:
        """The command line that gives these values; an option without any stands alone."""
        words = list(self.command)
        for name, option, _ in self.parameters:
            given = values.get(name)
            if option is None:
                words += given or []
            elif given is not None:
                words += [word for value in given for word in (option, value)] or [option]
        return tuple(words)


def cases(app: typer.Typer) -> list[Case]:
    """All parameters of all commands."""
    return [
        Case(path, parameters, parameter)
        for path, function in _functions(app, ())
        for parameters in [tuple(_parameters(function))]
        for parameter in parameters
    ]


def make_files(folder: Path) -> None:
    """The files that wrong paths lead to, in the folder that commands are to run in."""
    (folder / "empty").touch()
    (folder / "garbage").write_bytes(bytes(range(256)) * 8)
    (folder / "folder").mkdir()


def run(application: Callable[[], typer.Typer], name: str, arguments: Sequence[str]) -> Outcome:
    """Run a command line in this process. What a person would see as a traceback is raised."""
    stdin, stdout, stderr = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "surrogateescape", "backslashreplace")
    )
    with mock.patch.multiple(sys, argv=[name, *arguments], stdin=stdin, stdout=stdout, stderr=stderr):
        try:
            output.run(_command(application), name)
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    for stream in (stdout, stderr):
        stream.flush()
    out, err = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in (stdout, stderr))
    return Outcome(tuple(arguments), status, out, err)


@functools.cache
def _command(application: Callable[[], typer.Typer]) -> Callable[..., Any]:
    """All commands, made once: to make them takes longer than to refuse a wrong value."""
    return typer.main.get_command(application())


def require_sentence(outcome: Outcome) -> None:
    """Check that a command ended well, or said what is wrong: `Error: …` and status 1, or usage and status 2."""
    assert outcome.status in (0, 1, 2), outcome
    assert "Traceback" not in outcome.stderr, outcome
    if outcome.status == 2:
        assert "Error" in outcome.stderr or "Usage" in outcome.stdout + outcome.stderr, outcome
    if outcome.status == 1:
        assert outcome.stderr.strip(), outcome


def _functions(app: typer.Typer, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    for command in app.registered_commands:
        yield (*path, command.name or command.callback.__name__.replace("_", "-")), command.callback
    for group in app.registered_groups:
        yield from _functions(group.typer_instance, (*path, group.name))


def _parameters(function: Callable[..., Any]) -> Iterator[Parameter]:
    hints = typing.get_type_hints(function, include_extras=True)
    for name in inspect.signature(function).parameters:
        kind, declaration = typing.get_args(hints[name])[:2]
        inner = [part for part in typing.get_args(kind) if part is not type(None)]
        options = [text for text in getattr(declaration, "param_decls", None) or () if text.startswith("--")]
        option = [*options, f"--{name.replace('_', '-')}"][0].partition("/")[0]
        is_argument = isinstance(declaration, typer.models.ArgumentInfo)
        yield Parameter(name, None if is_argument else option, [*inner, kind][0])
