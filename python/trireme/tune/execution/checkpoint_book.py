"""Which checkpoints of a trial there are, and which of them are kept."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trireme.train._checkpoint import Checkpoint
from trireme.train._config import CheckpointConfig
from trireme.train._result import CHECKPOINT_FILE, metric_of
from trireme.train._storage import to_json
from trireme.tune.error import TuneError


@dataclass
class Saved:
    """A checkpoint in the trial's folder, and where in its training the trial was."""

    index: int
    folder: str
    iteration: int
    time_total_s: float
    metrics: dict[str, Any]


class CheckpointBook:
    """The checkpoints of a trial that are kept: the best so many, and always the latest.

    Threading: the thread that runs the search.
    """

    def __init__(self, config: CheckpointConfig) -> None:
        self._config = config
        self.kept: list[Saved] = []
        self.latest: Saved | None = None
        self.next_index = 0

    def add(self, trial_path: str, saved: Saved) -> None:
        """Takes a new checkpoint, deletes the folder of one that is surplus, and writes the trial's list.

        Raises
        ------
        TuneError
            The metric by which checkpoints are ranked was not reported with it.
        """
        self._score(saved)
        self.kept.append(saved)
        self.latest = saved
        self.next_index = saved.index + 1
        for surplus in self._drop():
            shutil.rmtree(os.path.join(trial_path, surplus.folder), ignore_errors=True)
        self._write(trial_path)

    def replay(self, saved: Saved) -> None:
        """Takes a checkpoint of an earlier run of the search; the folders were dealt with then."""
        self.kept.append(saved)
        self.latest = saved
        self.next_index = saved.index + 1
        self._drop()

    def forget_missing(self, trial_path: str) -> None:
        """Forgets checkpoints whose folders are gone; the newest of the others is the latest."""
        self.kept = [saved for saved in self.kept if os.path.isdir(os.path.join(trial_path, saved.folder))]
        self.latest = max(self.kept, key=lambda saved: saved.index, default=None)

    def forget(self) -> None:
        """Forgets all of them: the trial starts from the beginning. Folders stay, numbers go on."""
        self.kept, self.latest = [], None

    def ranked(self, trial_path: str) -> list[tuple[Checkpoint, dict[str, Any]]]:
        """Those kept, best last, each with the report that came with it."""
        order = sorted(self.kept, key=lambda saved: (self._score(saved), saved.index))
        return [(Checkpoint(os.path.join(trial_path, saved.folder)), saved.metrics) for saved in order]

    def _score(self, saved: Saved) -> float:
        name = self._config.checkpoint_score_attribute
        if name is None:
            return saved.index
        try:
            value = float(metric_of(saved.metrics, name))
        except KeyError as missing:
            raise TuneError(f"checkpoint_score_attribute is {name!r}, but {missing.args[0]}") from None
        if math.isnan(value):
            return -math.inf
        return value if self._config.checkpoint_score_order == "max" else -value

    def _drop(self) -> list[Saved]:
        limit = self._config.num_to_keep
        surplus = len(self.kept) - limit if limit is not None else 0
        if surplus <= 0:
            return []
        order = sorted(self.kept, key=lambda saved: (self._score(saved), saved.index))
        dropped = [saved for saved in order if saved is not self.latest][:surplus]
        self.kept = [saved for saved in self.kept if saved not in dropped]
        return dropped

    def _write(self, trial_path: str) -> None:
        entries: list[Mapping[str, Any]] = [
            {"index": saved.index, "folder": saved.folder, "metrics": saved.metrics} for saved in self.kept
        ]
        text = json.dumps({"latest": self.latest.folder if self.latest else None, "kept": entries}, default=to_json)
        partial = os.path.join(trial_path, f".{CHECKPOINT_FILE}.partial")
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, os.path.join(trial_path, CHECKPOINT_FILE))
