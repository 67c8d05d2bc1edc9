"""The folder of a run: its reports, its checkpoints, and which of them are kept."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trireme.train._checkpoint import Checkpoint
from trireme.train._config import CheckpointConfig
from trireme.train._result import CHECKPOINT_FILE, RESULT_FILE, Result, metric_of, read_reports

CHECKPOINT_PREFIX = "checkpoint_"


def to_json(value: Any) -> Any:
    """For json.dumps(default=...): NumPy scalars and arrays, and tensors of one element, as numbers; else the text."""
    if isinstance(value, np.generic) or (hasattr(value, "item") and getattr(value, "ndim", 1) == 0):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


@dataclass
class Kept:
    """A checkpoint that was registered. `index`: which report came with it, counted from 1."""

    index: int
    folder: str
    metrics: dict[str, Any]


class RunFolder:
    """The folder of one run, written by the one process that controls it.

    A checkpoint counts once `commit` has written it into ``checkpoints.json``; what a death left half written does not.

    Threading: one thread.
    Errors:    OSError of the file system.
    """

    def __init__(self, path: str | os.PathLike[str], config: CheckpointConfig) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._config = config
        self._kept: list[Kept] = []
        self._latest: Kept | None = None
        self.history: list[dict[str, Any]] = []
        self._load()

    @property
    def latest(self) -> Checkpoint | None:
        """The checkpoint that a restart goes on from."""
        return Checkpoint(self.path / self._latest.folder) if self._latest else None

    @property
    def reports(self) -> int:
        """How many reports the run has, as of its history."""
        return len(self.history)

    def roll_back(self) -> None:
        """Forgets the reports after the latest checkpoint (they will come again) and deletes what is not registered."""
        self.history = self.history[: self._latest.index if self._latest else 0]
        lines = [json.dumps(report, default=to_json) + "\n" for report in self.history]
        self._write(RESULT_FILE, "".join(lines))
        registered = {kept.folder for kept in self._kept}
        for folder in self.path.glob(CHECKPOINT_PREFIX + "*"):
            if folder.name not in registered and folder.is_dir():
                shutil.rmtree(folder)

    def commit(self, metrics: Mapping[str, Any], folder: str | None) -> Checkpoint | None:
        """Adds a report, and the checkpoint in `folder` (below the run's) when one came with it.

        Raises
        ------
        KeyError
            `checkpoint_score_attribute` is not among the metrics of the checkpoint.
        """
        report = dict(metrics)
        if folder is not None and self._config.checkpoint_score_attribute is not None:
            metric_of(report, self._config.checkpoint_score_attribute)
        self.history.append(report)
        with open(self.path / RESULT_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(report, default=to_json) + "\n")
        if folder is None:
            return None
        self._latest = Kept(self.reports, folder, report)
        self._kept.append(self._latest)
        dropped = self._drop()
        self._save()
        for kept in dropped:
            shutil.rmtree(self.path / kept.folder, ignore_errors=True)
        return self.latest

    def result(self, error: Exception | None = None) -> Result:
        """What there is now."""
        best = [(Checkpoint(self.path / kept.folder), kept.metrics) for kept in self._ranked()]
        last = self.history[-1] if self.history else None
        return Result(last, self.latest, str(self.path), error, best, list(self.history))

    def kept(self) -> list[tuple[str, dict[str, Any]]]:
        """Path and metrics of the checkpoints that there are, oldest first."""
        by_age = sorted(self._kept, key=lambda kept: kept.index)
        return [(str(self.path / kept.folder), kept.metrics) for kept in by_age]

    def _score(self, kept: Kept) -> float:
        name = self._config.checkpoint_score_attribute
        if name is None:
            return kept.index
        value = float(metric_of(kept.metrics, name))
        if np.isnan(value):
            return -np.inf
        return value if self._config.checkpoint_score_order == "max" else -value

    def _ranked(self) -> list[Kept]:
        """Worst first; of equal ones the older first."""
        return sorted(self._kept, key=lambda kept: (self._score(kept), kept.index))

    def _drop(self) -> list[Kept]:
        limit = self._config.num_to_keep
        surplus = len(self._kept) - limit if limit is not None else 0
        if surplus <= 0:
            return []
        # The latest stays whatever its score: a restart needs it. It is dropped once a newer one is there.
        dropped = [kept for kept in self._ranked() if kept is not self._latest][:surplus]
        self._kept = [kept for kept in self._kept if kept not in dropped]
        return dropped

    def _load(self) -> None:
        self.history = read_reports(self.path / RESULT_FILE)
        index = self.path / CHECKPOINT_FILE
        if not index.exists():
            return
        stored = json.loads(index.read_text(encoding="utf-8"))
        self._kept = [Kept(**entry) for entry in stored["kept"]]
        self._latest = next((kept for kept in self._kept if kept.folder == stored["latest"]), None)

    def _save(self) -> None:
        stored = {
            "latest": self._latest.folder if self._latest else None,
            "kept": [vars(kept) for kept in self._ranked()],
        }
        self._write(CHECKPOINT_FILE, json.dumps(stored, default=to_json, indent=1))

    def _write(self, name: str, text: str) -> None:
        # Renamed into place: a reader, or a run after a crash, sees the old or the new text, never half of one.
        partial = self.path / f".{name}.{uuid.uuid4().hex}"
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.path / name)


def persist(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copies a worker's checkpoint files into the checkpoint's folder; other workers' files there stay."""
    if os.path.abspath(source) != os.path.abspath(target):
        shutil.copytree(source, target, dirs_exist_ok=True)
