"""When trials, or all of them, stop."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from trireme.train._result import metric_of
from trireme.tune.error import TuneError


class Stopper:
    """Decides when trials stop. Base of all stoppers; called from the thread that runs the search."""

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether this trial stops after this report."""
        raise NotImplementedError

    def stop_all(self) -> bool:
        """Whether the whole search stops."""
        raise NotImplementedError


class NoopStopper(Stopper):
    """Never stops anything."""

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return False


class FunctionStopper(Stopper):
    """Stops a trial when ``function(trial_id, result)`` is true."""

    def __init__(self, function: Callable[[str, Mapping[str, Any]], bool]) -> None:
        if not callable(function):
            raise TypeError(f"FunctionStopper needs a function of trial id and result, not {function!r}")
        self._function = function

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return bool(self._function(trial_id, result))

    def stop_all(self) -> bool:
        return False

    @classmethod
    def is_valid_function(cls, function: Any) -> bool:
        """Whether `function` can be used: callable and no stopper itself."""
        return callable(function) and not isinstance(function, Stopper)


class DictStopper(Stopper):
    """Stops a trial when any of some reported values reaches its bound (``a/b`` looks into nested dicts).

    Raises (when called): `TuneError` for a value that the trial does not report.
    """

    def __init__(self, bounds: Mapping[str, Any]) -> None:
        self._bounds = dict(_flat_bounds(bounds))

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        for name, bound in self._bounds.items():
            if name == "done":
                continue
            try:
                value = metric_of(result, name)
            except KeyError as missing:
                raise TuneError(f"the search stops trials by {name!r}, but {missing.args[0]}") from None
            if value >= bound:
                return True
        return False

    def stop_all(self) -> bool:
        return False


def _flat_bounds(bounds: Mapping[str, Any], at: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, bound in bounds.items():
        flat += _flat_bounds(bound, f"{at}{name}/") if isinstance(bound, Mapping) else [(f"{at}{name}", bound)]
    return flat


class MaximumIterationStopper(Stopper):
    """Stops a trial after `max_iter` reports."""

    def __init__(self, max_iter: int) -> None:
        self._max_iter = max_iter
        self._seen: dict[str, int] = defaultdict(int)

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        self._seen[trial_id] += 1
        return self._seen[trial_id] >= self._max_iter

    def stop_all(self) -> bool:
        return False


class TimeoutStopper(Stopper):
    """Stops the search after some time (seconds, or a timedelta), counted from its start."""

    def __init__(self, timeout: float | timedelta) -> None:
        self._seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
        if self._seconds < 0:
            raise ValueError(f"the time-out is {timeout!r}; give a time from 0 on")
        self._start: float | None = None
        self._spent = 0.0  # by the search before it was resumed

    def start(self) -> None:
        """Starts the clock; no effect when it runs."""
        if self._start is None:
            self._start = time.monotonic()

    def remaining(self) -> float:
        """Seconds left, at least 0."""
        running = 0.0 if self._start is None else time.monotonic() - self._start
        return max(0.0, self._seconds - self._spent - running)

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._start is not None and self.remaining() <= 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_seconds": self._seconds, "_spent": self._seconds - self.remaining(), "_start": None}


class TrialPlateauStopper(Stopper):
    """Stops a trial whose metric does not change any more.

    Parameters
    ----------
    metric
        Reported value.
    std
        The standard deviation of the last values below which a trial stops.
    num_results
        How many last values.
    grace_period
        Reports before which no trial stops.
    metric_threshold, mode
        Only trials whose value is below (``"min"``) or above (``"max"``) the threshold stop.
    """

    def __init__(
        self,
        metric: str,
        std: float = 0.01,
        num_results: int = 4,
        grace_period: int = 4,
        metric_threshold: float | None = None,
        mode: str | None = None,
    ) -> None:
        if metric_threshold is not None and mode not in ("min", "max"):
            raise ValueError(f"with a metric_threshold, mode must be 'min' or 'max', not {mode!r}")
        self._metric, self._std, self._num, self._grace = metric, std, num_results, grace_period
        self._threshold, self._mode = metric_threshold, mode
        self._seen: dict[str, int] = defaultdict(int)
        self._last: dict[str, deque[float]] = {}

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        value = _value(result, self._metric)
        last = self._last.setdefault(trial_id, deque(maxlen=self._num))
        last.append(value)
        self._seen[trial_id] += 1
        if self._seen[trial_id] < self._grace or len(last) < self._num:
            return False
        if self._threshold is not None and (
            value > self._threshold if self._mode == "min" else value < self._threshold
        ):
            return False
        return float(np.std(last)) < self._std

    def stop_all(self) -> bool:
        return False


class ExperimentPlateauStopper(Stopper):
    """Stops the search when the best results do not get better any more.

    Parameters
    ----------
    metric, mode
        What is optimised.
    std
        The standard deviation of the `top` best values that counts as a plateau.
    top
        How many of the best values are looked at.
    patience
        Reports on the plateau before the search stops.
    """

    def __init__(self, metric: str, std: float = 0.001, top: int = 10, mode: str = "min", patience: int = 0) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode is {mode!r}; give 'min' or 'max'")
        if patience < 0 or not isinstance(patience, int):
            raise ValueError(f"patience is {patience!r}; give a number of reports from 0 on")
        if top <= 1 or not isinstance(top, int):
            raise ValueError(f"top is {top!r}; look at 2 values at least")
        if std <= 0:
            raise ValueError(f"std is {std!r}; give a positive one")
        self._metric, self._std, self._top, self._mode, self._patience = metric, std, top, mode, patience
        self._best: list[float] = []
        self._waited = 0
        self._stop = False

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        self._best.append(_value(result, self._metric))
        self._best = sorted(self._best, reverse=self._mode == "max")[: self._top]
        plateau = len(self._best) == self._top and float(np.std(self._best)) <= self._std
        self._waited = self._waited + 1 if plateau else 0
        self._stop = plateau and self._waited > self._patience
        return self._stop

    def stop_all(self) -> bool:
        return self._stop


class CombinedStopper(Stopper):
    """Stops when any of several stoppers does."""

    def __init__(self, *stoppers: Stopper) -> None:
        self.stoppers = stoppers

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return any([stopper(trial_id, result) for stopper in self.stoppers])  # noqa: C419 - each sees each report

    def stop_all(self) -> bool:
        return any(stopper.stop_all() for stopper in self.stoppers)


def _value(result: Mapping[str, Any], metric: str) -> float:
    try:
        return float(metric_of(result, metric))
    except KeyError as missing:
        raise TuneError(f"the stopper looks at {metric!r}, but {missing.args[0]}") from None


def make_stopper(stop: Any, time_budget_s: float | timedelta | None = None) -> Stopper:
    """The stopper for what a user gave as ``stop`` and as time budget.

    Raises
    ------
    TypeError
        `stop` is neither a stopper, a dict, a function, nor a list of them.
    """
    stoppers: list[Stopper] = []
    for one in stop if isinstance(stop, (list, tuple)) else [] if stop is None else [stop]:
        if isinstance(one, Stopper):
            stoppers.append(one)
        elif isinstance(one, Mapping):
            stoppers.append(DictStopper(one))
        elif callable(one):
            stoppers.append(FunctionStopper(one))
        else:
            raise TypeError(f"stop is {one!r}; give a dict of bounds, a function of trial id and result, or a Stopper")
    if time_budget_s is not None:
        stoppers.append(TimeoutStopper(time_budget_s))
    return stoppers[0] if len(stoppers) == 1 else CombinedStopper(*stoppers) if stoppers else NoopStopper()


def deadline_of(stopper: Stopper) -> TimeoutStopper | None:
    """The time-out within a stopper that is nearest, its clock started."""
    found = [stopper] if isinstance(stopper, TimeoutStopper) else []
    for inner in stopper.stoppers if isinstance(stopper, CombinedStopper) else ():
        nearest = deadline_of(inner)
        found += [nearest] if nearest else []
    for one in found:
        one.start()
    return min(found, key=TimeoutStopper.remaining, default=None)
