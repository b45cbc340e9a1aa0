"""Measurements: each module is a command, its results are in results/."""
