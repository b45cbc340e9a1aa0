"""Measurements: each module is a command. README.md says what each shows; the results are in results/."""
