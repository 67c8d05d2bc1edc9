"""Which trial is the best."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trireme.tune.experiment.trial import Trial

SCOPES = ("last", "all", "avg", "last-5-avg", "last-10-avg")


def check(metric: str | None, mode: str | None, scope: str) -> tuple[str, str]:
    """Metric and mode, if both are known.

    Raises
    ------
    ValueError
        One is missing or unknown.
    """
    if metric is None:
        raise ValueError("no metric is given and none was set in TuneConfig; say by what trials are compared")
    if mode not in ("max", "min"):
        raise ValueError(f"mode is {mode!r}; give 'max' or 'min', here or in TuneConfig")
    if scope not in SCOPES:
        raise ValueError(f"scope is {scope!r}; choose one of {', '.join(SCOPES)}")
    return metric, mode


def score_of(trial: Trial, metric: str, mode: str | None, scope: str) -> float | None:
    """A trial's value; None when it reported none."""
    seen = trial.metric_summary(metric)
    if seen is None:
        return None
    return seen["max" if mode == "max" else "min"] if scope == "all" else seen[scope]


def best_trial(
    trials: Sequence[Trial], metric: str | None, mode: str | None, scope: str = "last", finite: bool = True
) -> Trial:
    """The trial with the best value; of equal ones the first.

    Raises
    ------
    ValueError
        No metric or mode.
    RuntimeError
        No trial has a (finite) value; says what trials reported.
    """
    metric, mode = check(metric, mode, scope)
    scored = [
        (value, trial)
        for trial in trials
        if (value := score_of(trial, metric, mode, scope)) is not None and (math.isfinite(value) or not finite)
    ]
    if not scored:
        reported = sorted({name for trial in trials for name in trial.metric_analysis})
        failed = sum(trial.status == Trial.ERROR for trial in trials)
        raise RuntimeError(
            f"no best trial: none of the {len(trials)} trials ({failed} failed) reported "
            f"{'a finite ' if finite else ''}{metric!r}; reported were: {', '.join(reported) or 'no numbers at all'}"
        )
    pick = max if mode == "max" else min
    return pick(scored, key=lambda pair: pair[0])[1]
