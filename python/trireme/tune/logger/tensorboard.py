"""Results for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trireme.tune.experiment.metrics import as_number
from trireme.tune.experiment.trial import flatten
from trireme.tune.logger.event_file import EventFileWriter
from trireme.tune.logger.logger import LoggerCallback

if TYPE_CHECKING:
    from trireme.tune.experiment.trial import Trial

_LEFT_OUT = frozenset(
    ("config", "pid", "timestamp", "done", "training_iteration", "time_since_restore", "iterations_since_restore")
)


class TBXLoggerCallback(LoggerCallback):
    """``events.out.tfevents.*``: the numbers of each report as scalars ``ray/tune/<name>``. Needs no package."""

    def __init__(self) -> None:
        self._writers: dict[str, EventFileWriter] = {}

    def log_trial_start(self, trial: Trial) -> None:
        self.log_trial_end(trial)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        writer = self._writers.get(trial.trial_id)
        if writer is None:
            writer = self._writers[trial.trial_id] = EventFileWriter(trial.path)
        step = result.get("timesteps_total") or result["training_iteration"]
        numbers = {}
        for name, value in flatten({key: value for key, value in result.items() if key not in _LEFT_OUT}).items():
            number = as_number(value)
            if number is not None:
                numbers[f"ray/tune/{name}"] = number
        writer.add_scalars(numbers, step)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        writer = self._writers.pop(trial.trial_id, None)
        if writer is not None:
            writer.close()

    def close(self) -> None:
        while self._writers:
            self._writers.popitem()[1].close()
