"""Results for TensorBoard."""

from __future__ import annotations

import os
from numbers import Number
from typing import TYPE_CHECKING, Any

from trireme.tune.experiment.trial import flatten
from trireme.tune.logger.event_file import EventFileWriter
from trireme.tune.logger.logger import LoggerCallback

if TYPE_CHECKING:
    from trireme.tune.experiment.trial import Trial

_LEFT_OUT = frozenset(("config", "pid", "timestamp", "done", "training_iteration"))


class TBXLoggerCallback(LoggerCallback):
    """``events.out.tfevents.*``: the numbers of each report as scalars ``ray/tune/<name>``. Needs no package."""

    def __init__(self) -> None:
        self._writers: dict[str, EventFileWriter] = {}

    def log_trial_start(self, trial: Trial) -> None:
        self.log_trial_end(trial)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        writer = self._writers.get(trial.trial_id)
        if writer is None:
            os.makedirs(trial.path, exist_ok=True)
            writer = self._writers[trial.trial_id] = EventFileWriter(trial.path)
        step = result.get("timesteps_total") or result["training_iteration"]
        numbers = {
            f"ray/tune/{name}": float(value)  # type: ignore[arg-type]
            for name, value in flatten({k: v for k, v in result.items() if k not in _LEFT_OUT}).items()
            if isinstance(value, Number) and not isinstance(value, (bool, complex))
        }
        writer.add_scalars(numbers, step)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        writer = self._writers.pop(trial.trial_id, None)
        if writer is not None:
            writer.close()
