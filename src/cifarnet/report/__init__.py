"""Report of a run: a self-contained HTML page, its figures as PNG files, and a model card.

``write_report`` writes all of them. matplotlib draws the figures, as SVG in the page, which follows the reader's theme.
Jinja, matplotlib, Pillow and PyYAML are imported on use.
"""

from .charts import draw_curves
from .writing import CARD, PAGE, require_reportable, write_report

__all__ = ["CARD", "PAGE", "draw_curves", "require_reportable", "write_report"]
