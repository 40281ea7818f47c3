"""The command line: commands parse options, call the library and print."""

import os
import sys
import warnings
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from cifarnet.errors import CifarnetError, WorkerError
from cifarnet.interrupt import exit_on_interrupt
from cifarnet.system import prepare_process

from .display import complain, discard, out, prepare_streams
from .options import require_text

COMMANDS = (
    *("train", "tune", "evaluate", "report", "export", "inspect", "predict", "compare", "reproduce", "conformance"),
    *("robustness", "demo", "doctor", "data"),
)
"""Names of the commands and of their modules, in the order of the help."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out(f"cifarnet {version('cifarnet')}")
        raise typer.Exit


def common_options(
    version: Annotated[  # noqa: ARG001  # handled by its callback
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train, evaluate and export a small image classifier on JAX, PyTorch or TensorFlow."""
    prepare_process()


def program(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the command line with the commands ``names`` only, of which it imports the modules."""
    built = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    built.callback()(common_options)
    for name in names:
        module = import_module(f".{name}", __name__)
        if hasattr(module, "app"):
            built.add_typer(module.app, name=name)
        else:
            built.command(name)(module.command)
    return built


def app() -> None:
    """Run the command that the arguments begin with; import the others only if there is none."""
    named = [name for name in sys.argv[1:2] if name in COMMANDS]
    program(named or COMMANDS)()


EXTRAS = {
    **dict.fromkeys(("h5py", "keras"), "tensorflow"),
    **dict.fromkeys(("jinja2", "matplotlib", "onnx", "scipy", "sklearn", "yaml"), "evidence"),
    "optuna": "tune",
}
"""Modules missing from the base install, and an extra that installs each; any framework's extra does for training."""


def main() -> None:
    """Run a command. Our errors become one line on stderr and exit code 1, Ctrl-C exit code 130."""
    exit_on_interrupt()
    prepare_streams()
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # about metadata beside sound pixels
    try:
        require_text(sys.argv[1:])
        app()
    except WorkerError as error:
        complain(error)
        os._exit(1)  # JAX would wait for the other workers, and abort
    except CifarnetError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        from cifarnet.backends import not_installed

        _fail(not_installed([error.name], "this command", EXTRAS[error.name]))
    except (ImportError, MemoryError) as error:  # a library that the system does not load, often for lack of memory
        _fail(f"the system: {str(error).splitlines()[0] if str(error) else 'out of memory'}; check memory and packages")
    except OSError as error:
        discard(sys.stdout)
        _fail(f"{error.filename or 'the system'}: {error.strerror or error}; check space and permissions")


def _fail(message: str) -> None:
    complain(message)
    sys.exit(1)
