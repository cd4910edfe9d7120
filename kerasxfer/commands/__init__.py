"""The `kerasxfer` command: one file per command, imported by `main` only."""


def main() -> None:
    """Entry point of `kerasxfer`."""
    import typer
    from kerasxfer_serving.commands import _output
    from kerasxfer_serving.commands.benchmark import benchmark
    from kerasxfer_serving.commands.predict import predict

    from kerasxfer.commands.env import env
    from kerasxfer.commands.preview import preview
    from kerasxfer.commands.report import report

    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
    for command in (report, preview, predict, benchmark, env):  # in the order of --help
        app.command()(command)
    _output.run(app, "kerasxfer")
