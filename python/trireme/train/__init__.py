"""Training on a group of worker processes, with Ray's names; see docs/train.md."""

from trireme.train._checkpoint import Checkpoint
from trireme.train._config import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, SyncConfig
from trireme.train._result import Result

__all__ = [
    "Checkpoint",
    "CheckpointConfig",
    "FailureConfig",
    "Result",
    "RunConfig",
    "ScalingConfig",
    "SyncConfig",
]
