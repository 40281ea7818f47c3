"""From pixels and files to probabilities, with the same weights for everyone: ``python -m benchmarks.inference``."""
