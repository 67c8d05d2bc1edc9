"""The checkpoints of a run, as its workers see them while it goes on."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from trireme.train._checkpoint import Checkpoint
from trireme.train._session import require_session


class CheckpointConsistencyMode(enum.Enum):
    """Ray's; both mean the same here, where nothing validates checkpoints after they are stored."""

    COMMITTED = "COMMITTED"
    VALIDATED = "VALIDATED"


class ReportedCheckpointStatus(enum.Enum):
    """Ray's; here always ``COMMITTED``."""

    COMMITTED = "COMMITTED"
    PENDING_VALIDATION = "PENDING_VALIDATION"
    VALIDATED = "VALIDATED"
    VALIDATION_TIMEOUT = "VALIDATION_TIMEOUT"
    VALIDATION_FAILED = "VALIDATION_FAILED"


@dataclass(frozen=True)
class ReportedCheckpoint:
    """A checkpoint of the run and the metrics that rank 0 reported with it."""

    checkpoint: Checkpoint
    metrics: dict[str, Any]
    status: ReportedCheckpointStatus = ReportedCheckpointStatus.COMMITTED


def get_all_reported_checkpoints(
    consistency_mode: CheckpointConsistencyMode = CheckpointConsistencyMode.VALIDATED, timeout_s: float | None = None
) -> list[ReportedCheckpoint]:
    """The checkpoints that the run has, the oldest first: those that `CheckpointConfig` keeps, of earlier starts of the group too.

    Returns once the other workers have made the reports that this one has made; they need not call it.

    Parameters
    ----------
    consistency_mode
        For Ray's signature.
    timeout_s
        Seconds to wait for the others; None: as long as it takes.

    Raises
    ------
    RuntimeError
        Not within a training function.
    TimeoutError
        The others did not come in time.
    """
    CheckpointConsistencyMode(consistency_mode)
    kept = require_session("get_all_reported_checkpoints", in_tune=False).reported_checkpoints(timeout_s)
    return [ReportedCheckpoint(Checkpoint(path), metrics) for path, metrics in kept]
