"""Options in groups: what a dataclass declares is an option of each command that takes it."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from kerasxfer_serving.commands.options import grouped
from typer.testing import CliRunner


@dataclass(frozen=True)
class Size:
    height: Annotated[int, typer.Option(min=1, help="Rows.")] = 2
    width: Annotated[int, typer.Option(min=1, help="Columns.")] = 3


@dataclass(frozen=True)
class SizeAndDepth(Size):
    depth: Annotated[int | None, typer.Option("--deep", help="Channels.")] = None


@dataclass(frozen=True)
class Place:
    size: Annotated[str, typer.Option(help="Called as another group is.")] = "large"


@grouped
def draw(name: str, *, size: SizeAndDepth, place: Place, dry: Annotated[bool, typer.Option("--dry")] = False) -> None:
    """Draw."""
    print(name, size, place.size, dry)


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(draw)
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output.strip()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "a SizeAndDepth(height=2, width=3, depth=None) large False"),
        (["a", "--width", "5", "--dry"], "a SizeAndDepth(height=2, width=5, depth=None) large True"),
        (["a", "--size", "small"], "a SizeAndDepth(height=2, width=3, depth=None) small False"),
        (["--deep", "7", "a", "--height", "1"], "a SizeAndDepth(height=1, width=3, depth=7) large False"),
    ],
)
def test_a_group_arrives_whole(arguments: list[str], said: str) -> None:
    assert run(*arguments) == (0, said)


@pytest.mark.parametrize("arguments", [["a", "--width", "0"], ["a", "--width", "x"], ["a", "--place", "1"], []])
def test_a_field_is_checked_as_an_option_is(arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2


def test_help_shows_the_fields_where_the_group_stands() -> None:
    said = run("--help")[1]
    assert [said.index(option) for option in ("--height", "--width", "--deep", "--dry")] == sorted(
        said.index(option) for option in ("--height", "--width", "--deep", "--dry")
    )


def test_called_from_python_a_group_has_its_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    draw("a", height=4)
    assert capsys.readouterr().out == "a SizeAndDepth(height=4, width=3, depth=None) large False\n"


def test_an_option_without_a_default_is_a_mistake_of_ours() -> None:
    @dataclass(frozen=True)
    class Required:
        height: int

    def command(*, size: Required) -> None: ...

    command.__annotations__["size"] = Required
    with pytest.raises(AssertionError, match="default"):
        grouped(command)
