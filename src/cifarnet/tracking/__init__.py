"""Show a training in TensorBoard or MLflow too, while it runs; the run's own files remain the truth.

``require_trackers`` refuses names and missing packages before anything is made; ``open_tracking`` gives an observer.
"""

from .forwarding import Tracking, open_tracking, require_trackers
from .interface import NAMES, Tracker

__all__ = ["NAMES", "Tracker", "Tracking", "open_tracking", "require_trackers"]
