"""The results of a search."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from trireme.train._result import RESULT_FILE, Result, read_reports
from trireme.tune.analysis.ranking import best_trial, score_of
from trireme.tune.experiment.trial import Trial, flatten

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure


class ResultGrid(Sequence[Result]):
    """One `Result` for each trial, in the order of creation.

    Parameters
    ----------
    trials
        Of the search.
    experiment_path
        Its folder.
    metric, mode
        What was optimised.
    """

    def __init__(self, trials: Sequence[Trial], experiment_path: str, metric: str | None, mode: str | None) -> None:
        self._trials = list(trials)
        self._path, self._metric, self._mode = experiment_path, metric, mode

    @classmethod
    def from_path(cls, path: str, metric: str | None = None, mode: str | None = None) -> ResultGrid:
        """The results so far of the search in a folder."""
        from trireme.tune.execution.resume import load_trials

        return cls(list(load_trials(path).values()), path, metric, mode)

    @property
    def experiment_path(self) -> str:
        """The search's folder."""
        return self._path

    @property
    def errors(self) -> list[Exception]:
        """Those of failed trials."""
        return [trial.error for trial in self._trials if trial.error is not None]

    @property
    def num_errors(self) -> int:
        """How many trials failed."""
        return sum(trial.status == Trial.ERROR for trial in self._trials)

    @property
    def num_terminated(self) -> int:
        """How many trials ended well."""
        return sum(trial.status == Trial.TERMINATED for trial in self._trials)

    def get_best_result(
        self, metric: str | None = None, mode: str | None = None, scope: str = "last", filter_nan_and_inf: bool = True
    ) -> Result:
        """The result of the best trial.

        Parameters
        ----------
        metric, mode
            What is compared; those of `TuneConfig` unless given. A search of one trial needs none.
        scope
            Which report of a trial counts: ``"last"``; ``"all"`` (its best); ``"avg"``, ``"last-5-avg"``,
            ``"last-10-avg"`` (means).
        filter_nan_and_inf
            True: trials whose value is not finite do not count.

        Raises
        ------
        ValueError
            No metric or mode is known.
        RuntimeError
            No trial reported the metric; says what was reported.
        """
        metric, mode = metric or self._metric, mode or self._mode
        if len(self._trials) == 1 and metric is None and mode is None:
            return self[0]
        return self._result(best_trial(self._trials, metric, mode, scope, filter_nan_and_inf))

    def get_dataframe(self, filter_metric: str | None = None, filter_mode: str | None = None) -> pd.DataFrame:
        """A pandas DataFrame with a row for each trial: its last report, or the one with the best `filter_metric`.

        Raises
        ------
        ImportError
            pandas is not installed; says how to get it.
        """
        pandas = _import("pandas", "get_dataframe()", "Result.metrics of each result needs nothing")
        if filter_metric is not None and filter_mode not in ("max", "min"):
            raise ValueError(f"filter_metric needs filter_mode 'max' or 'min', not {filter_mode!r}")
        rows = []
        for trial in self._trials:
            report = trial.last_result
            if filter_metric is not None:
                reports = [one for one in _history(trial) if filter_metric in flatten(one)]
                pick = max if filter_mode == "max" else min
                report = pick(reports, key=lambda one: flatten(one)[filter_metric]) if reports else report
            if report:
                rows.append(
                    {
                        **flatten({k: v for k, v in report.items() if k != "config"}),
                        **{f"config/{name}": value for name, value in flatten(trial.config).items()},
                        "logdir": trial.path,
                    }
                )
        return pandas.DataFrame(rows)

    def plot(self, metric: str | None = None, *, path: str | os.PathLike[str] | Path | None = None) -> Figure:
        """Draws the search: the metric of each trial over its iterations, and the final metric over each parameter.

        Parameters
        ----------
        metric
            What is drawn; that of `TuneConfig` unless given.
        path
            Where the picture is written; ``results.png`` in the search's folder when None.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Matplotlib is not installed; says how to get it.
        """
        _import("matplotlib", "plot()", "get_dataframe() has the numbers")
        from trireme.tune.analysis.plot import draw

        name = metric or self._metric
        if name is None:
            raise ValueError("plot() needs a metric; give it, or set TuneConfig.metric")
        figure = draw(
            [(trial, _history(trial)) for trial in self._trials], name, self._mode, os.path.basename(self._path)
        )
        figure.savefig(path if path is not None else os.path.join(self._path, "results.png"), dpi=120)
        return figure

    def __len__(self) -> int:
        return len(self._trials)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._result(trial) for trial in self._trials[index]]
        return self._result(self._trials[index])

    def __iter__(self) -> Iterator[Result]:
        return (self._result(trial) for trial in self._trials)

    def _result(self, trial: Trial) -> Result:
        return Result(
            trial.last_result or {"config": trial.config},
            trial.checkpoint,
            trial.path,
            trial.error,
            trial.checkpoints.ranked(trial.path),
            _history(trial),
        )

    def __repr__(self) -> str:
        lines = [
            f"ResultGrid of {self._path}: {len(self)} trials, {self.num_terminated} terminated, "
            f"{self.num_errors} failed"
        ]
        for trial in self._trials:
            score = score_of(trial, self._metric, self._mode, "last") if self._metric else None
            lines.append(f"  {trial}: {trial.status}" + (f", {self._metric}={score:g}" if score is not None else ""))
        return "\n".join(lines[:21] + ([f"  ... {len(lines) - 21} more"] if len(lines) > 21 else []))


def _history(trial: Trial) -> list[dict[str, Any]]:
    from pathlib import Path

    return read_reports(Path(trial.path, RESULT_FILE)) or ([trial.last_result] if trial.last_result else [])


def _import(package: str, what: str, otherwise: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError:
        raise ImportError(
            f"{what} needs {package}: install it (Debian: apt install python3-{package}); {otherwise}"
        ) from None
