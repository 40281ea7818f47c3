"""Growth of the cost with the amount of work, by cifarnet's public API alone: ``python -m benchmarks.scaling``."""
