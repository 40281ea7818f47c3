"""Only for the package ``data``, which imports these functions from here."""

from .system import cleanup_on_interrupt, defer_interrupt

__all__ = ["cleanup_on_interrupt", "defer_interrupt"]
