"""What a training run or a trial left: metrics, checkpoints, error."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.train._checkpoint import Checkpoint

if TYPE_CHECKING:
    import pandas as pd

RESULT_FILE = "result.json"  # one JSON object a line and report
CHECKPOINT_FILE = "checkpoints.json"


def metric_of(metrics: Mapping[str, Any], name: str) -> Any:
    """Looks a metric up; ``a/b`` means ``metrics["a"]["b"]`` unless there is a key ``a/b``.

    Raises
    ------
    KeyError
        There is no such metric; says which there are.
    """
    if name in metrics:
        return metrics[name]
    value: Any = metrics
    for part in name.split("/"):
        if not isinstance(value, Mapping) or part not in value:
            raise KeyError(f"no metric {name!r} among the reported ones: {', '.join(sorted(map(str, metrics)))}")
        value = value[part]
    return value


@dataclass
class Result:
    """What a run or trial left.

    Parameters
    ----------
    metrics
        The last report of rank 0; None when there was none.
    checkpoint
        The latest one.
    path
        The run's folder.
    error
        Why it failed; None when it did not.
    best_checkpoints
        Those kept, each with the metrics reported with it, best last (newest last without a score attribute).
    metrics_history
        All reports of rank 0, in order.
    return_value
        What the training function of rank 0 returned; None when it failed, returned nothing or what cannot be sent, and in a
        result read from files.
    """

    metrics: dict[str, Any] | None
    checkpoint: Checkpoint | None
    path: str | None = None
    error: Exception | None = None
    best_checkpoints: list[tuple[Checkpoint, dict[str, Any]]] = field(default_factory=list)
    metrics_history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    return_value: Any = field(default=None, repr=False)

    @property
    def metrics_dataframe(self) -> pd.DataFrame:
        """All reports as a pandas DataFrame, a row each; nested dicts become columns ``a/b``.

        Raises
        ------
        ImportError
            pandas is not installed; says how to get it. `metrics_history` needs nothing.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError(
                "Result.metrics_dataframe needs pandas: install it (Debian: apt install python3-pandas), or use "
                "Result.metrics_history, a list of dicts"
            ) from None
        return pd.json_normalize(self.metrics_history, sep="/")

    @property
    def config(self) -> dict[str, Any] | None:
        """The hyper-parameters of a Tune trial, None otherwise."""
        return (self.metrics or {}).get("config")

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint | None:
        """The checkpoint with the best value of a metric.

        Parameters
        ----------
        metric
            Reported with the checkpoints; ``a/b`` looks into nested dicts.
        mode
            ``"max"`` or ``"min"``.

        Returns
        -------
        Checkpoint or None
            None when no checkpoint was kept.

        Raises
        ------
        ValueError
            An unknown mode, or no checkpoint has the metric.
        """
        if mode not in ("max", "min"):
            raise ValueError(f"mode is {mode!r}; give 'max' or 'min'")
        if not self.best_checkpoints:
            return None
        scored = []
        for checkpoint, metrics in self.best_checkpoints:
            try:
                scored.append((metric_of(metrics, metric), checkpoint))
            except KeyError as missing:
                reason = missing.args[0]
        if not scored:
            raise ValueError(f"none of the {len(self.best_checkpoints)} checkpoints was reported with it: {reason}")
        return (max if mode == "max" else min)(scored, key=lambda pair: pair[0])[1]

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> Result:
        """Reads what a run left in its folder. The error is not stored, so it is None.

        Raises
        ------
        FileNotFoundError
            The folder is not there, or is no run's folder.
        """
        root = Path(path)
        if not root.is_dir():
            raise FileNotFoundError(f"there is no folder {str(root)!r}")
        reports, kept = root / RESULT_FILE, root / CHECKPOINT_FILE
        if not reports.exists() and not kept.exists():
            raise FileNotFoundError(f"{str(root)!r} holds neither {RESULT_FILE} nor {CHECKPOINT_FILE}: no run's folder")
        history = read_reports(reports)
        index = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {"kept": [], "latest": None}
        best = [(Checkpoint(root / entry["folder"]), entry["metrics"]) for entry in index["kept"]]
        latest = Checkpoint(root / index["latest"]) if index["latest"] else None
        return cls(history[-1] if history else None, latest, str(root), None, best, history)


def read_reports(file: Path) -> list[dict[str, Any]]:
    """The reports in a ``result.json``. A last line cut off by the death of its writer is left out."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
