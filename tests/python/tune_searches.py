"""What tests that search on the runtime share: small trials, and how a search is run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from trireme import tune
from trireme.tune import RunConfig, TuneConfig, Tuner


def fit(trainable: Any, path: Path, space: dict[str, Any] | None = None, **options: Any) -> tune.ResultGrid:
    run = {"name": "s", "storage_path": str(path), "verbose": 0, **options.pop("run", {})}
    config = {"metric": "score", "mode": "max", **options}
    return Tuner(
        trainable, param_space=space or {}, tune_config=TuneConfig(**config), run_config=RunConfig(**run)
    ).fit()


def save(state: Any, metrics: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "state.json").write_text(json.dumps(state))
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def load(default: Any) -> Any:
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return default
    with checkpoint.as_directory() as folder:
        return json.loads(Path(folder, "state.json").read_text())


def line(config: dict[str, Any]) -> None:
    for step in range(1, config.get("steps", 5) + 1):
        tune.report({"score": config["slope"] * step})


def resumable(config: dict[str, Any]) -> None:
    state = load({"total": 0.0, "step": 0})
    while True:
        state["step"] += 1
        state["total"] += config["rate"]
        save(state, {"score": state["total"], "step": state["step"]})
