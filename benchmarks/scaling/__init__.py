"""How cost grows with the work, by cifarnet's public API alone: ``python -m benchmarks.scaling``."""
