"""Models and data loaders made ready for a worker group."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from trireme.train._session import require_session
from trireme.train.torch._device import get_device, import_torch

if TYPE_CHECKING:
    import torch

FSDP_ON_CPU = (2, 4)  # tried; Debian's 1.13 cannot even import its FSDP under Python 3.11


def prepare_model(
    model: torch.nn.Module,
    move_to_device: bool | torch.device = True,
    parallel_strategy: Literal["ddp", "fsdp"] | None = "ddp",
    parallel_strategy_kwargs: Mapping[str, Any] | None = None,
) -> torch.nn.Module:
    """The model on this worker's device, wrapped so that the workers' gradients are averaged.

    Parameters
    ----------
    model
        With the same structure on every worker; rank 0's parameters count.
    move_to_device
        False leaves it where it is; a device names another one.
    parallel_strategy
        ``ddp``, ``fsdp`` (on CPUs: with PyTorch 2.4 or newer) or None for no wrapping. With one worker the model is not
        wrapped.
    parallel_strategy_kwargs
        Of `DistributedDataParallel` or `FullyShardedDataParallel`.

    Raises
    ------
    RuntimeError
        This PyTorch's FSDP does not work here; says which does.
    """
    torch = import_torch()
    session = require_session("torch.prepare_model")
    if parallel_strategy not in ("ddp", "fsdp", None):
        raise ValueError(f"parallel_strategy is {parallel_strategy!r}; give 'ddp', 'fsdp' or None")
    device = get_device() if isinstance(move_to_device, bool) else torch.device(move_to_device)
    if move_to_device is not False:
        model = model.to(device)
    if session.place.world_size == 1 or parallel_strategy is None:
        return model
    kwargs = dict(parallel_strategy_kwargs or {})
    if parallel_strategy == "fsdp":
        # Without a device FSDP takes the current GPU, and fails where there is none.
        kwargs.setdefault("device_id", device)
        return _fsdp_class(torch, device)(model, **kwargs)
    from torch.nn.parallel import DistributedDataParallel

    if device.type == "cuda" and move_to_device is not False:
        kwargs.setdefault("device_ids", [device])
        kwargs.setdefault("output_device", device)
    return DistributedDataParallel(model, **kwargs)


def _fsdp_class(torch: ModuleType, device: torch.device) -> Any:
    found = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if device.type == "cpu" and found < FSDP_ON_CPU:
        raise RuntimeError(
            f"parallel_strategy='fsdp' on CPUs needs PyTorch {'.'.join(map(str, FSDP_ON_CPU))} or newer, this is "
            f"{torch.__version__}; use 'ddp', or workers with GPUs (ScalingConfig(use_gpu=True))"
        )
    try:
        from torch.distributed.fsdp import FullyShardedDataParallel
    except (ImportError, ValueError) as error:  # PyTorch 1.13 under Python 3.11: a dataclass with a mutable default
        raise RuntimeError(
            f"parallel_strategy='fsdp': the FSDP of PyTorch {torch.__version__} cannot be imported by this Python "
            f"({error}); install a newer PyTorch or use 'ddp'"
        ) from error
    return FullyShardedDataParallel


class DeviceLoader:
    """A data loader whose batches are moved to a device; everything else is the loader's."""

    def __init__(self, loader: torch.utils.data.DataLoader, device: torch.device | None) -> None:
        self._loader, self._device = loader, device
        self._epoch = 0

    def __iter__(self) -> Iterator[Any]:
        sampler = self._loader.sampler
        if hasattr(sampler, "set_epoch"):
            # Without it a distributed sampler shuffles each epoch alike. A call by the user comes later and wins.
            sampler.set_epoch(self._epoch)
            self._epoch += 1
        for batch in self._loader:
            yield batch if self._device is None else _moved(batch, self._device)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_loader", "_device"):
            raise AttributeError(name)
        return getattr(self._loader, name)


def prepare_data_loader(
    data_loader: torch.utils.data.DataLoader,
    add_dist_sampler: bool = True,
    move_to_device: bool = True,
    auto_transfer: bool = True,
) -> torch.utils.data.DataLoader | DeviceLoader:
    """The loader, giving this worker its part of the samples on its device.

    Parameters
    ----------
    data_loader
        Of the whole dataset, with the batch size of one worker.
    add_dist_sampler
        Splits the samples with a `DistributedSampler` (shuffling if the loader did).
    move_to_device
        Moves the tensors of each batch.
    auto_transfer
        On a GPU, copies from pinned memory without waiting for the copy.
    """
    import_torch()
    from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler
    from torch.utils.data.distributed import DistributedSampler

    place = require_session("torch.prepare_data_loader").place
    device = get_device() if move_to_device else None
    on_gpu = device is not None and device.type == "cuda"
    splits = add_dist_sampler and place.world_size > 1 and not isinstance(data_loader.dataset, IterableDataset)
    if splits and not isinstance(data_loader.sampler, DistributedSampler):
        if not isinstance(data_loader.sampler, (RandomSampler, SequentialSampler)):
            raise ValueError(
                f"the loader has a sampler of its own ({type(data_loader.sampler).__name__}), which cannot be split; "
                "give it a DistributedSampler, or pass add_dist_sampler=False"
            )
        shuffle = isinstance(data_loader.sampler, RandomSampler)
        keep = {
            name: getattr(data_loader, name)
            for name in (
                "num_workers",
                "collate_fn",
                "drop_last",
                "timeout",
                "worker_init_fn",
                "multiprocessing_context",
                "generator",
                "persistent_workers",
            )
        }
        if data_loader.num_workers > 0:
            keep["prefetch_factor"] = data_loader.prefetch_factor
        data_loader = DataLoader(
            data_loader.dataset,
            batch_size=data_loader.batch_size,
            sampler=DistributedSampler(
                data_loader.dataset,
                place.world_size,
                place.world_rank,
                shuffle=shuffle,
                drop_last=data_loader.drop_last,
            ),
            pin_memory=data_loader.pin_memory or (on_gpu and auto_transfer),
            **keep,
        )
    return DeviceLoader(data_loader, device) if device is not None else data_loader


def _moved(batch: Any, device: torch.device) -> Any:
    if hasattr(batch, "to"):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_moved(value, device) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(_moved(value, device) for value in batch)
    return batch


def enable_reproducibility(seed: int = 0) -> None:
    """Seeds torch, NumPy and Python alike on every worker, and has torch use deterministic algorithms only."""
    import os
    import random

    import numpy as np

    torch = import_torch()
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
