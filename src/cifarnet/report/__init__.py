"""A run as something to show: one page that needs no network, its pictures as PNG files, and a model card.

``write_report`` makes all of them. The page is drawn by templates in HTML and SVG, so that it follows the reader's
theme; matplotlib draws the PNG files. Jinja, matplotlib, Pillow and PyYAML are imported when something is drawn.
"""

from .charts import draw_curves
from .writing import CARD, PAGE, require_reportable, write_report

__all__ = ["CARD", "PAGE", "draw_curves", "require_reportable", "write_report"]
