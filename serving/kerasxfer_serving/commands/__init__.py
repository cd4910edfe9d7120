"""The `kerasxfer-serving` command: one file per command, imported by `main` only."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

_HELP = "Batch prediction with image classifiers in ONNX Runtime: one row per image."


def application() -> "typer.Typer":
    """All commands, in the order of `--help`."""
    import typer

    from kerasxfer_serving.commands.benchmark import benchmark
    from kerasxfer_serving.commands.compare import compare
    from kerasxfer_serving.commands.env import env
    from kerasxfer_serving.commands.inspect import inspect
    from kerasxfer_serving.commands.predict import predict
    from kerasxfer_serving.commands.serve import serve

    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=_HELP)
    for command in (predict, serve, benchmark, compare, inspect, env):
        app.command()(command)
    return app


def main() -> None:
    """Entry point of `kerasxfer-serving`."""
    from kerasxfer_serving.commands import output

    output.run(application(), "kerasxfer-serving")
