"""Measurements of cifarnet and of others that do the same; README.md beside this file says how they are made."""

from pathlib import Path

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "benchmarks" / "results"
GOLDEN = PROJECT / "export" / "golden"
"""Small model file and images that the apps under ``export/`` are tested with."""
