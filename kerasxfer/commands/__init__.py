"""The `kerasxfer` command: one file per command, imported by `main` only."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

_HELP = "Transfer learning for Keras 3: from class folders to a verified ONNX file and its predictions."


def application() -> "typer.Typer":
    """All commands, in the order of `--help`."""
    import typer
    from kerasxfer_serving.commands.benchmark import benchmark
    from kerasxfer_serving.commands.inspect import inspect
    from kerasxfer_serving.commands.predict import predict

    from kerasxfer.commands._quiet import quiet
    from kerasxfer.commands.audit import audit
    from kerasxfer.commands.cache import app as cache
    from kerasxfer.commands.check import check
    from kerasxfer.commands.choose import choose
    from kerasxfer.commands.demo import demo
    from kerasxfer.commands.env import env
    from kerasxfer.commands.export import export
    from kerasxfer.commands.preview import preview
    from kerasxfer.commands.report import report
    from kerasxfer.commands.split import split
    from kerasxfer.commands.train import train

    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=_HELP)
    before_export = (demo, audit, split, choose, train)
    for command in (*before_export, export, check, report, preview, predict, benchmark, inspect, env):
        app.command()(quiet(command))
    app.add_typer(cache, name="cache")
    return app


def main() -> None:
    """Entry point of `kerasxfer`."""
    from kerasxfer_serving.commands import output

    from kerasxfer.lean_keras import import_keras_lean

    import_keras_lean()
    output.run(application(), "kerasxfer")
