"""Trainables: what a trial runs."""

from trireme.tune.trainable.trainable import Trainable
from trireme.tune.trainable.util import with_parameters, with_resources

__all__ = ["Trainable", "with_parameters", "with_resources"]
