"""Trainers inside a function trainable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trireme.train._callback import TrainRunContext, UserCallback
from trireme.train._checkpoint import Checkpoint
from trireme.tune import session


class TuneReportCallback(UserCallback):
    """For a trainer that a function trainable fits: hands each report of rank 0 on to the search.

    Give it as ``RunConfig(callbacks=[TuneReportCallback()])`` to the trainer. A trainer that *is* the trainable needs none.

    Raises
    ------
    RuntimeError
        Made outside of a trial.
    """

    def __init__(self) -> None:
        session.get_context()

    def after_report(
        self, run_context: TrainRunContext, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        session.report(metrics[0], checkpoint=checkpoint)

    def after_exception(self, run_context: TrainRunContext, worker_exceptions: Mapping[int, BaseException]) -> None:
        """Nothing: the trainer starts its workers again, or the trial fails."""
