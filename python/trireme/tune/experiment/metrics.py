"""A metric over a trial's reports."""

from __future__ import annotations

import math
from collections import deque
from typing import Any


def as_number(value: Any) -> float | None:
    """A reported value as a number; None when it is none (a bool is none)."""
    kind = type(value)
    if kind is float or kind is int:
        return float(value)
    if kind is bool or kind is str or value is None:
        return None
    item = getattr(value, "item", None)  # NumPy scalars, tensors of one element
    if item is not None and getattr(value, "ndim", 1) == 0:
        return as_number(item())
    return None


class Series:
    """The extremes, the means and the last of one metric; cheap to add to."""

    __slots__ = ("count", "last", "max", "min", "recent", "sum")

    def __init__(self) -> None:
        self.max, self.min, self.sum, self.last = -math.inf, math.inf, 0.0, math.nan
        self.count = 0
        self.recent: deque[float] = deque(maxlen=10)

    def add(self, value: float) -> None:
        """One more value. Values that are not numbers (NaN) are no extremes."""
        if value > self.max:
            self.max = value
        if value < self.min:
            self.min = value
        self.sum += value
        self.last = value
        self.count += 1
        self.recent.append(value)

    def summary(self) -> dict[str, float]:
        """``max``, ``min``, ``avg``, ``last``, ``last-5-avg``, ``last-10-avg``."""
        recent = list(self.recent)
        none = self.max < self.min  # only NaN came
        return {
            "max": math.nan if none else self.max,
            "min": math.nan if none else self.min,
            "avg": self.sum / self.count,
            "last": self.last,
            "last-5-avg": sum(recent[-5:]) / len(recent[-5:]),
            "last-10-avg": sum(recent) / len(recent),
        }
