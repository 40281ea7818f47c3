"""Report of a run: a self-contained HTML page, its figures as PNG files, and a model card.

``write_report`` writes all of them. matplotlib draws the figures, as SVG in the page, which follows the reader's theme.
Jinja, matplotlib, Pillow and PyYAML are imported on use.
"""

from .charts import draw_curves
from .writing import CARD, PAGE, edited_card, report_run, write_report

__all__ = ["CARD", "PAGE", "draw_curves", "edited_card", "report_run", "write_report"]
