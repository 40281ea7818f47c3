"""Turn the weights of a run into one self-describing ONNX file, and prove it before it gets its name."""

from .exporting import Exported, export_run, writable_path
from .gate import Bars, Check, Parity
from .importing import import_weights

__all__ = ["Bars", "Check", "Exported", "Parity", "export_run", "import_weights", "writable_path"]
