"""A search as `tune.run` returns it, or as its folder holds it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.train._checkpoint import Checkpoint
from trireme.train._result import RESULT_FILE, read_reports
from trireme.tune.analysis.ranking import best_trial
from trireme.tune.experiment.trial import Trial
from trireme.tune.result_grid import ResultGrid

if TYPE_CHECKING:
    import pandas as pd


class ExperimentAnalysis:
    """Looks into the trials of a search.

    Parameters
    ----------
    experiment_checkpoint_path
        The search's folder.
    trials
        When they are known; read from the folder otherwise.
    default_metric, default_mode
        What the ``best_*`` properties compare.
    """

    def __init__(
        self,
        experiment_checkpoint_path: str | os.PathLike[str],
        *,
        trials: Sequence[Trial] | None = None,
        default_metric: str | None = None,
        default_mode: str | None = None,
    ) -> None:
        from trireme.tune.execution.resume import load_trials

        self.experiment_path = os.path.abspath(os.path.expanduser(os.fspath(experiment_checkpoint_path)))
        self.trials = list(trials) if trials is not None else list(load_trials(self.experiment_path).values())
        self.default_metric, self.default_mode = default_metric, default_mode

    def get_best_trial(
        self, metric: str | None = None, mode: str | None = None, scope: str = "last", filter_nan_and_inf: bool = True
    ) -> Trial | None:
        """The best trial; None when none has a value. See `ResultGrid.get_best_result`."""
        try:
            return best_trial(
                self.trials, metric or self.default_metric, mode or self.default_mode, scope, filter_nan_and_inf
            )
        except RuntimeError:
            return None

    def get_best_config(
        self, metric: str | None = None, mode: str | None = None, scope: str = "last"
    ) -> dict[str, Any] | None:
        """The configuration of the best trial."""
        trial = self.get_best_trial(metric, mode, scope)
        return trial.config if trial else None

    def get_best_logdir(self, metric: str | None = None, mode: str | None = None, scope: str = "last") -> str | None:
        """The folder of the best trial."""
        trial = self.get_best_trial(metric, mode, scope)
        return trial.path if trial else None

    def get_best_checkpoint(
        self, trial: Trial, metric: str | None = None, mode: str | None = None
    ) -> Checkpoint | None:
        """The checkpoint of a trial with the best value of a metric; None when it has none."""
        kept = trial.checkpoints.ranked(trial.path)
        name, how = metric or self.default_metric, mode or self.default_mode
        if name is None:
            return kept[-1][0] if kept else None
        known = [(metrics[name], checkpoint) for checkpoint, metrics in kept if name in metrics]
        return (max if how == "max" else min)(known, key=lambda pair: pair[0])[1] if known else None

    def get_last_checkpoint(
        self, trial: Trial | None = None, metric: str | None = None, mode: str | None = None
    ) -> Checkpoint | None:
        """The latest checkpoint of a trial; of the best one when None."""
        trial = trial or self.get_best_trial(metric, mode)
        return trial.checkpoint if trial else None

    def get_all_configs(self) -> dict[str, dict[str, Any]]:
        """Folder of each trial to its configuration."""
        return {trial.path: trial.config for trial in self.trials}

    def dataframe(self, metric: str | None = None, mode: str | None = None) -> pd.DataFrame:
        """A row for each trial; see `ResultGrid.get_dataframe`."""
        return ResultGrid(self.trials, self.experiment_path, self.default_metric, self.default_mode).get_dataframe(
            metric, mode
        )

    @property
    def best_trial(self) -> Trial | None:
        """By the default metric."""
        return self.get_best_trial()

    @property
    def best_config(self) -> dict[str, Any] | None:
        """Of the best trial."""
        return self.get_best_config()

    @property
    def best_logdir(self) -> str | None:
        """Of the best trial."""
        return self.get_best_logdir()

    @property
    def best_result(self) -> dict[str, Any] | None:
        """Last report of the best trial."""
        trial = self.best_trial
        return trial.last_result if trial else None

    @property
    def best_checkpoint(self) -> Checkpoint | None:
        """Of the best trial."""
        trial = self.best_trial
        return self.get_best_checkpoint(trial) if trial else None

    @property
    def best_dataframe(self) -> pd.DataFrame | None:
        """All reports of the best trial."""
        trial = self.best_trial
        return self.trial_dataframes.get(trial.trial_id) if trial else None

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Last report of each trial, by id."""
        return {trial.trial_id: trial.last_result for trial in self.trials}

    @property
    def results_df(self) -> pd.DataFrame:
        """Last reports as a DataFrame, by id."""
        return self.dataframe().set_index("trial_id")

    @property
    def trial_dataframes(self) -> dict[str, pd.DataFrame]:
        """All reports of each trial, by id."""
        import pandas as pd

        return {
            trial.trial_id: pd.json_normalize(read_reports(Path(trial.path, RESULT_FILE)), sep="/")
            for trial in self.trials
        }

    def stats(self) -> dict[str, Any]:
        """Numbers of trials by status."""
        return {
            status: sum(trial.status == status for trial in self.trials)
            for status in (Trial.PENDING, Trial.RUNNING, Trial.PAUSED, Trial.TERMINATED, Trial.ERROR)
        }
