"""Images per second of training, end to end: ``python -m benchmarks.training``."""
