"""Trials, and what is searched."""

from trireme._lazy import attach

__getattr__, __dir__ = attach(__name__, {"Experiment": "experiment", "Trial": "trial"})

__all__ = ["Experiment", "Trial"]
