"""One trial, as the process that runs the search sees it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from trireme.train._checkpoint import Checkpoint
from trireme.train._config import CheckpointConfig
from trireme.tune.execution.checkpoint_book import CheckpointBook
from trireme.tune.execution.placement_groups import PlacementGroupFactory
from trireme.tune.experiment.metrics import Series, as_number

#: What `Trial.fill()` adds to a report that says who reported and when, and is no measure of anything.
FILLED_IN = frozenset(
    (
        "config",
        "done",
        "date",
        "timestamp",
        "pid",
        "hostname",
        "node_ip",
        "trial_id",
        "experiment_tag",
        "checkpoint_dir_name",
    )
)


class Trial:
    """One configuration and what became of it.

    Attributes
    ----------
    trial_id, trainable_name : str
    config : dict
        Given to the trainable.
    status : str
        PENDING, RUNNING, PAUSED, TERMINATED or ERROR.
    last_result : dict
        The last report, with what Tune added.
    metric_analysis : dict
        Metric to ``max``, ``min``, ``avg``, ``last``, ``last-5-avg`` and ``last-10-avg`` over the trial's reports.
    num_failures : int
    error : Exception | None
    experiment_tag : str
        Number and changed values, such as ``3_lr=0.1``.
    path : str
        The trial's folder.

    Threading: the thread that runs the search.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    TERMINATED = "TERMINATED"
    ERROR = "ERROR"

    def __init__(
        self,
        trial_id: str,
        trainable_name: str,
        config: dict[str, Any],
        experiment_path: str,
        index: int,
        evaluated_params: Mapping[str, Any],
        request: PlacementGroupFactory,
        checkpoint_config: CheckpointConfig | None = None,
    ) -> None:
        self.trial_id, self.trainable_name, self.index = trial_id, trainable_name, index
        self.config = config
        self.evaluated_params = dict(evaluated_params)
        tag = ",".join(f"{name.rsplit('/', 1)[-1]}={short(value)}" for name, value in self.evaluated_params.items())
        self.experiment_tag = f"{index}_{tag}" if tag else str(index)
        self.placement_group_factory = request
        self.experiment_path = experiment_path
        self.dirname = ""
        self.custom_trial_name: str | None = None
        self.status = self.PENDING
        self.last_result: dict[str, Any] = {}
        self._series: dict[str, Series] = {}
        self.num_failures = 0
        self.error: Exception | None = None
        self.start_time: float | None = None
        self.location: dict[str, Any] = {}  # pid, hostname, node_ip, node_id: of the process it runs in
        self.checkpoints = CheckpointBook(checkpoint_config or CheckpointConfig())
        self.iterations_since_restore = 0
        self.time_at_restore = 0.0

    def name_folder(self, dirname: str | None = None) -> None:
        """Chooses the name of the trial's folder: number and values, short enough for any file system."""
        self.dirname = dirname or _file_name(
            f"{self.trainable_name}_{self.trial_id}_{self.experiment_tag}"[:100] + time.strftime("_%Y-%m-%d_%H-%M-%S")
        )

    @property
    def path(self) -> str:
        """The trial's folder."""
        return os.path.join(self.experiment_path, self.dirname)

    local_path = path
    logdir = path

    @property
    def local_experiment_path(self) -> str:
        """The experiment's folder."""
        return self.experiment_path

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The latest one."""
        entry = self.checkpoints.latest
        return Checkpoint(os.path.join(self.path, entry.folder)) if entry else None

    @property
    def error_file(self) -> str | None:
        """Text of the error, when the trial failed."""
        file = os.path.join(self.path, "error.txt")
        return file if self.error is not None and os.path.exists(file) else None

    def get_error(self) -> Exception | None:
        """Why it failed; None when it did not."""
        return self.error

    def is_finished(self) -> bool:
        """Whether it ended, well or not."""
        return self.status in (self.TERMINATED, self.ERROR)

    @property
    def is_saving(self) -> bool:
        """Never seen true: a save is over before its report is."""
        return False

    def set_config(self, config: dict[str, Any]) -> None:
        """Replaces the configuration."""
        self.config = config

    def set_experiment_tag(self, tag: str) -> None:
        """Replaces the tag."""
        self.experiment_tag = tag

    def fill(self, report: Mapping[str, Any], done: bool) -> dict[str, Any]:
        """A report as users, schedulers and loggers see it: with what Tune knows of it."""
        iteration, this_s, total_s, stamp, metrics = (
            report["iteration"],
            report["this_s"],
            report["total_s"],
            report["stamp"],
            report["metrics"],
        )
        return {
            "timestamp": int(stamp),
            "checkpoint_dir_name": report.get("folder"),
            "done": done,
            "training_iteration": iteration,
            "trial_id": self.trial_id,
            "date": time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(stamp)),
            "time_this_iter_s": this_s,
            "time_total_s": total_s,
            **self.location,
            "time_since_restore": total_s - self.time_at_restore,
            "iterations_since_restore": self.iterations_since_restore,
            "experiment_tag": self.experiment_tag,
            **metrics,
            "config": self.config,
        }

    def update(self, result: dict[str, Any]) -> None:
        """Takes a filled report as the last one."""
        self.last_result = result
        for name, value in result.items():
            if name == "config":
                continue
            if isinstance(value, dict):
                for inner, number in flatten(value).items():
                    self._observe(f"{name}/{inner}", number)
            else:
                self._observe(name, value)

    def _observe(self, name: str, value: Any) -> None:
        number = as_number(value)
        if number is not None:
            series = self._series.get(name)
            if series is None:
                series = self._series[name] = Series()
            series.add(number)

    @property
    def metric_analysis(self) -> dict[str, dict[str, float]]:
        """Each metric over the trial's reports."""
        return {name: series.summary() for name, series in self._series.items()}

    def metric_summary(self, name: str) -> dict[str, float] | None:
        """One metric over the trial's reports; None when it was not reported."""
        series = self._series.get(name)
        return series.summary() if series is not None else None

    def __str__(self) -> str:
        return self.custom_trial_name or f"{self.trainable_name}_{self.trial_id}"

    def __repr__(self) -> str:
        return f"Trial({self}, {self.status})"


def short(value: Any) -> str:
    """A value in a few characters, for tags and tables."""
    if isinstance(value, float):
        return f"{value:.4f}" if 0.001 <= abs(value) < 10000 or value == 0 else f"{value:.3g}"
    text = getattr(value, "__name__", None) or str(value)
    return text if len(text) <= 24 else text[:21] + "..."


def flatten(values: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """A nested dict as a flat one with keys ``a/b``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{at}{name}/"))
        else:
            flat[f"{at}{name}"] = value
    return flat


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.,=@+-]", "_", text)
