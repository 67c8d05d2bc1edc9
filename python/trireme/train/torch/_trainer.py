"""Training with PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trireme.train._checkpoint import Checkpoint
from trireme.train._config import RunConfig, ScalingConfig
from trireme.train._shards import DataConfig
from trireme.train._trainer import DataParallelTrainer
from trireme.train.torch._config import TorchConfig


class TorchTrainer(DataParallelTrainer):
    """Runs a training function in a group of workers with torch.distributed set up between them.

    Parameters
    ----------
    torch_config
        Backend and timeout; gloo on CPUs and NCCL on GPUs unless given.

    Notes
    -----
    The other parameters are those of `DataParallelTrainer`.
    """

    _backend_default = TorchConfig

    def __init__(
        self,
        train_loop_per_worker: Callable[[], Any] | Callable[[dict[str, Any]], Any],
        *,
        train_loop_config: Mapping[str, Any] | None = None,
        torch_config: TorchConfig | None = None,
        scaling_config: ScalingConfig | None = None,
        dataset_config: DataConfig | None = None,
        run_config: RunConfig | None = None,
        datasets: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        resume_from_checkpoint: Checkpoint | None = None,
        seed: int | None = None,
    ) -> None:
        if torch_config is not None and not isinstance(torch_config, TorchConfig):
            raise TypeError(f"torch_config is a {type(torch_config).__name__}; give a trireme.train.torch.TorchConfig")
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=torch_config,
            scaling_config=scaling_config,
            dataset_config=dataset_config,
            run_config=run_config,
            datasets=datasets,
            metadata=metadata,
            resume_from_checkpoint=resume_from_checkpoint,
            seed=seed,
        )

    def _arguments(self) -> dict[str, Any]:
        arguments = super()._arguments()
        arguments["torch_config"] = arguments.pop("backend_config")
        return arguments
