"""``python -m cifarnet`` and ``cifarnet`` are the same command."""

from .interrupt import exit_on_interrupt


def main() -> None:
    """Run the command; Ctrl-C has its say from the first import to the last breath of the process."""
    exit_on_interrupt()
    from .cli import main as run  # typer, and what it brings

    run()


if __name__ == "__main__":
    main()
