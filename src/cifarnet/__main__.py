"""``python -m cifarnet`` and ``cifarnet`` are the same command."""

import atexit
import gc

from .interrupt import exit_on_interrupt


def main() -> None:
    """Run the command. From the first import on, Ctrl-C ends the process with exit code 130."""
    exit_on_interrupt()
    atexit.register(gc.freeze)  # or Python searches all objects for cycles at its end, a fifth of a short command
    from .cli import main as run  # typer, and what it brings

    run()


if __name__ == "__main__":
    main()
