"""Base of the loggers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trireme.tune.callback import Callback

if TYPE_CHECKING:
    from trireme.tune.experiment.trial import Trial


class LoggerCallback(Callback):
    """A callback that writes results somewhere; override the ``log_*`` methods.

    Threading: the thread that runs the search.
    """

    def log_trial_start(self, trial: Trial) -> None:
        """A trial starts, or starts again."""

    def log_trial_restore(self, trial: Trial) -> None:
        """A trial goes on from a checkpoint."""

    def log_trial_save(self, trial: Trial) -> None:
        """A trial saved a checkpoint."""

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """A trial reported."""

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """A trial ended."""

    def close(self) -> None:
        """The search is over; trials that it gave up have had no end."""

    def on_experiment_end(self, trials: Sequence[Trial], **info: Any) -> None:
        self.close()

    def on_trial_result(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        self.log_trial_result(iteration, trial, result)

    def on_trial_start(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_start(trial)

    def on_trial_restore(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_restore(trial)

    def on_trial_save(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_save(trial)

    def on_trial_complete(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_end(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        self.log_trial_end(trial, failed=True)
