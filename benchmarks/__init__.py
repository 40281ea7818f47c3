"""Measurements, their raw samples in ``results/``."""
