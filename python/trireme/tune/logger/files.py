"""Results as files in each trial's folder: JSON lines, CSV, and the configuration."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
from typing import TYPE_CHECKING, Any

from trireme.train._result import RESULT_FILE
from trireme.train._storage import to_json
from trireme.tune.experiment.trial import flatten
from trireme.tune.logger.logger import LoggerCallback

if TYPE_CHECKING:
    from trireme.tune.experiment.trial import Trial

PARAMS_FILE = "params.json"
PARAMS_PICKLE = "params.pkl"
PROGRESS_FILE = "progress.csv"


class JsonLoggerCallback(LoggerCallback):
    """``result.json``: one JSON object a line and report. ``params.json`` and ``params.pkl``: the configuration."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._configs: dict[str, tuple[dict[str, Any], str]] = {}

    def log_trial_start(self, trial: Trial) -> None:
        self._close(trial)
        text = json.dumps(trial.config, default=to_json)
        self._configs[trial.trial_id] = (trial.config, text)
        with open(os.path.join(trial.path, PARAMS_FILE), "w", encoding="utf-8") as file:
            file.write(text)
        self._write_pickle(trial)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._files[trial.trial_id] = os.open(os.path.join(trial.path, RESULT_FILE), flags, 0o644)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        if trial.trial_id not in self._files:
            self.log_trial_start(trial)
        # The configuration is the same in every line of a start, so its text is made once.
        config, text = self._configs[trial.trial_id]
        if config is not trial.config:
            self._configs[trial.trial_id] = config, text = trial.config, json.dumps(trial.config, default=to_json)
        rest = json.dumps({name: value for name, value in result.items() if name != "config"}, default=to_json)
        os.write(self._files[trial.trial_id], f'{rest[:-1]}, "config": {text}}}\n'.encode())

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        self._close(trial)

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def _close(self, trial: Trial) -> None:
        file = self._files.pop(trial.trial_id, None)
        if file is not None:
            os.close(file)

    @staticmethod
    def _write_pickle(trial: Trial) -> None:
        try:
            data = pickle.dumps(trial.config)
        except Exception:
            import cloudpickle  # lambdas and local classes

            data = cloudpickle.dumps(trial.config)
        with open(os.path.join(trial.path, PARAMS_PICKLE), "wb") as file:
            file.write(data)


class CSVLoggerCallback(LoggerCallback):
    """``progress.csv``: a row for each report, nested values as columns ``a/b``; the columns of the first report."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, list[str]]] = {}

    def log_trial_start(self, trial: Trial) -> None:
        self.log_trial_end(trial)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        flat = flatten(result)
        known = self._files.get(trial.trial_id)
        rows = []
        if known is None:
            path = os.path.join(trial.path, PROGRESS_FILE)
            columns = _header(path)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            if columns is None:
                columns = list(flat)
                rows.append(columns)
            known = self._files[trial.trial_id] = (file, columns)
        file, columns = known
        rows.append([flat.get(name, "") for name in columns])
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        os.write(file, text.getvalue().encode())

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        known = self._files.pop(trial.trial_id, None)
        if known is not None:
            os.close(known[0])

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1][0])


def _header(path: str) -> list[str] | None:
    """The columns of a file that an earlier start of the trial began."""
    if not os.path.exists(path):
        return None
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file), None)
