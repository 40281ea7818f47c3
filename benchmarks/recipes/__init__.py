"""What accuracy a recipe reaches after which time, from the start of the process."""

from .table import picture, table

__all__ = ["picture", "table"]
