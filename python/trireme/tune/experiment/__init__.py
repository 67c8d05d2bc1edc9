"""Trials."""

from trireme.tune.experiment.trial import Trial

__all__ = ["Trial"]
