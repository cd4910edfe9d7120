"""The `kerasxfer-serving` command: one file per command, imported by `main` only."""

_HELP = "Batch prediction with image classifiers in ONNX Runtime: one row per picture."


def main() -> None:
    """Entry point of `kerasxfer-serving`."""
    import typer

    from kerasxfer_serving.commands import _output
    from kerasxfer_serving.commands.benchmark import benchmark
    from kerasxfer_serving.commands.compare import compare
    from kerasxfer_serving.commands.env import env
    from kerasxfer_serving.commands.inspect import inspect
    from kerasxfer_serving.commands.predict import predict

    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=_HELP)
    for command in (predict, benchmark, compare, inspect, env):  # in the order of --help
        app.command()(command)
    _output.run(app, "kerasxfer-serving")
