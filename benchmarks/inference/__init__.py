"""From pixels and from files to probabilities, each contender with the same weights: ``python -m benchmarks.inference``."""
