"""The median stopping rule of Google Vizier (Golovin et al., 2017)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trireme.tune.schedulers.trial_scheduler import TrialScheduler, time_of

if TYPE_CHECKING:
    from trireme.tune.execution.tune_controller import TuneController
    from trireme.tune.experiment.trial import Trial


class MedianStoppingRule(TrialScheduler):
    """Stops a trial whose best score is worse than the median, over the others, of their mean score up to that time.

    Parameters
    ----------
    time_attr
        Reported value that says how far a trial is.
    metric, mode
        What is judged.
    grace_period
        No trial is stopped before, and reports before do not count in the means, in units of `time_attr`.
    min_samples_required
        Other trials that must have got as far.
    min_time_slice
        With fewer of them: a trial that ran so long since its last pause makes room for others that wait.
    hard_stop
        False: paused instead, and run on when nothing else is left.
    """

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        grace_period: float = 60.0,
        min_samples_required: int = 3,
        min_time_slice: float = 0,
        hard_stop: bool = True,
    ) -> None:
        super().__init__(metric, mode)
        self._time_attr, self._grace, self._min_samples = time_attr, grace_period, min_samples_required
        self._slice, self._hard_stop = min_time_slice, hard_stop
        self._reports: dict[str, list[tuple[float, float]]] = {}  # (time, score) of each trial
        self._judged: dict[str, None] = {}
        self._last_pause: dict[str, float] = {}

    def on_trial_result(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> str:
        me = trial.trial_id
        time = time_of(result, self._time_attr)
        reports = self._reports.setdefault(me, [])
        reports.append((time, self.score(result)))
        if me in self._judged or time < self._grace:
            return self.CONTINUE
        others = [got for other, got in self._reports.items() if other != me and got[-1][0] >= time]
        if len(others) < self._min_samples:
            waited = time - self._last_pause.get(me, 0)
            if self._slice and waited >= self._slice and controller.waiting_trials():
                self._last_pause[me] = time
                return self.PAUSE
            return self.CONTINUE
        median = statistics.median(self._mean_until(got, time) for got in others)
        if max(score for _, score in reports) >= median:
            return self.CONTINUE
        self._judged[me] = None
        return self.STOP if self._hard_stop else self.PAUSE

    def _mean_until(self, reports: list[tuple[float, float]], time: float) -> float:
        counted = [score for at, score in reports if self._grace <= at <= time]
        return statistics.fmean(counted) if counted else reports[0][1]

    def on_trial_complete(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> None:
        self.replay_result(trial, result)

    def replay_result(self, trial: Trial, result: Mapping[str, Any]) -> None:
        if not result:
            return
        report = (time_of(result, self._time_attr), self.score(result))
        reports = self._reports.setdefault(trial.trial_id, [])
        if not reports or reports[-1] != report:
            reports.append(report)

    def debug_string(self) -> str:
        return f"Using MedianStoppingRule: {len(self._judged)} trials stopped"
