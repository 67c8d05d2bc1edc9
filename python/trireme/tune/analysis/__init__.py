"""Looking into a search's results."""

from trireme._lazy import attach

__getattr__, __dir__ = attach(__name__, {"ExperimentAnalysis": "experiment_analysis"})

__all__ = ["ExperimentAnalysis"]
