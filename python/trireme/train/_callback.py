"""What a user hangs on a run's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trireme.train._checkpoint import Checkpoint
from trireme.train._config import RunConfig


@dataclass(frozen=True)
class TrainRunContext:
    """Which run: its name, configuration and folder."""

    run_name: str
    run_config: RunConfig
    path: str


class UserCallback:
    """Base of `RunConfig.callbacks`; its methods run where `fit` was called; what they raise ends the run."""

    def after_report(
        self, run_context: TrainRunContext, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """All workers have reported; `metrics` by rank."""

    def after_exception(self, run_context: TrainRunContext, worker_exceptions: Mapping[int, BaseException]) -> None:
        """Workers died or raised; by rank. The run may start again."""
