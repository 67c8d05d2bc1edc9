"""What each report must hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trireme.train._result import metric_of
from trireme.tune.error import TuneError
from trireme.tune.execution.experiment import Experiment
from trireme.tune.experiment.trial import FILLED_IN, Trial


class RequiredMetrics:
    """What `TuneConfig`, the scheduler and the searcher of a search look at."""

    def __init__(self, experiment: Experiment) -> None:
        scheduler, searcher = experiment.scheduler, experiment.searcher
        names: dict[str | None, str] = {experiment.metric: "TuneConfig.metric"}
        if scheduler.needs_metric:
            names.setdefault(scheduler.metric, f"the metric of {type(scheduler).__name__}")
        searched = searcher.metric
        for name in searched if isinstance(searched, (list, tuple)) else [searched]:
            names.setdefault(name, f"the metric of {type(searcher).__name__}")
        self._names = {name: whose for name, whose in names.items() if name is not None} if experiment.strict_metric else {}

    def check(self, trial: Trial, result: Mapping[str, Any]) -> None:
        """Looks for them in a report.

        Raises
        ------
        TuneError
            One is not there; says who wants it and what was reported.
        """
        for name, whose in self._names.items():
            try:
                metric_of(result, name)
            except KeyError:
                reported = ", ".join(sorted(str(key) for key in result if key not in FILLED_IN))
                raise TuneError(
                    f"{whose} is {name!r}, but trial {trial.trial_id} reported no such value; it reported: {reported}. "
                    "Report it with each tune.report(), or name another metric"
                ) from None
