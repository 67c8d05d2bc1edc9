"""torch, and the device of this worker."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from trireme.train._session import current_session

if TYPE_CHECKING:
    import torch


def import_torch() -> ModuleType:
    """torch.

    Raises
    ------
    ImportError
        It is not installed; says how to get it and what works without.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "trireme.train.torch needs PyTorch: install it (Debian: apt install python3-torch; elsewhere: pip install "
            f"torch), or train with NumPy: trireme.train.DataParallelTrainer ({error})"
        ) from error
    return torch


def get_devices() -> list[torch.device]:
    """The devices of this worker: its GPUs, or the CPU."""
    torch = import_torch()
    session = current_session()
    wants_gpu = session is not None and session.run.resources.get("GPU", 0) > 0
    if not wants_gpu:
        return [torch.device("cpu")]
    if not torch.cuda.is_available():
        raise RuntimeError(
            "this worker reserved a GPU but torch sees none: torch was built without CUDA, or the driver is missing"
        )
    # The runtime shows a worker its own GPUs only; where somebody has lifted that, the local rank tells them apart.
    visible = torch.cuda.device_count()
    share = max(1, int(session.run.resources["GPU"]))
    if visible <= share:
        return [torch.device("cuda", index) for index in range(visible)]
    first = session.place.local_rank * share
    return [torch.device("cuda", index) for index in range(first, first + share)]


def get_device() -> torch.device:
    """The (first) device of this worker."""
    return get_devices()[0]
