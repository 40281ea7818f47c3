"""``python -m cifarnet`` is the command ``cifarnet``."""

from .cli import main

if __name__ == "__main__":
    main()
