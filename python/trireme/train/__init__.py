"""Training on a group of worker processes, with Ray's names; see docs/train.md."""

from trireme.train import collective
from trireme.train._backend import BackendConfig, CollectiveConfig
from trireme.train._callback import TrainRunContext, UserCallback
from trireme.train._checkpoint import Checkpoint
from trireme.train._config import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, SyncConfig
from trireme.train._errors import ControllerError, TrainingFailedError, WorkerGroupError
from trireme.train._functions import get_checkpoint, get_context, get_dataset_shard, report
from trireme.train._parallel import DataParallel
from trireme.train._reported import (
    CheckpointConsistencyMode,
    ReportedCheckpoint,
    ReportedCheckpointStatus,
    get_all_reported_checkpoints,
)
from trireme.train._result import Result
from trireme.train._session import CheckpointUploadMode, TrainContext
from trireme.train._shards import DataConfig, DataShard
from trireme.train._trainer import DataParallelTrainer

__all__ = [
    "BackendConfig",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointConsistencyMode",
    "CheckpointUploadMode",
    "CollectiveConfig",
    "ControllerError",
    "DataConfig",
    "DataParallel",
    "DataParallelTrainer",
    "DataShard",
    "FailureConfig",
    "ReportedCheckpoint",
    "ReportedCheckpointStatus",
    "Result",
    "RunConfig",
    "ScalingConfig",
    "SyncConfig",
    "TrainContext",
    "TrainRunContext",
    "TrainingFailedError",
    "UserCallback",
    "WorkerGroupError",
    "collective",
    "get_all_reported_checkpoints",
    "get_checkpoint",
    "get_context",
    "get_dataset_shard",
    "report",
]
