"""The command line: parse, call one or two library functions, print. The only place that prints."""

import sys

import typer

from cifarnet.errors import CifarnetError

from . import data, doctor, evaluate, train

app = typer.Typer(
    help="Train one small image classifier on JAX, PyTorch or TensorFlow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train.command)
app.command("evaluate")(evaluate.command)
app.command("doctor")(doctor.command)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command; turn our errors into one line on stderr and exit code 1."""
    try:
        app()
    except CifarnetError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'the system'}: {error.strerror or error}; check space and permissions")


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
