"""torch.distributed for a worker group."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from typing import Any, Literal

from trireme.train._backend import BackendConfig, WorkerFacts
from trireme.train._session import Session
from trireme.train.torch._device import get_device, import_torch

_stores: list[Any] = []  # of rank 0: they listen as long as its process lives


@dataclass
class TorchConfig(BackendConfig):
    """How torch.distributed is set up.

    Rank 0's process opens a store on a free port, and the runtime tells the others where.

    Parameters
    ----------
    backend
        ``gloo`` or ``nccl``; nccl when the workers have GPUs, else gloo, if not given.
    timeout_s
        Seconds until a collective, and meeting the others, fails.
    """

    backend: Literal["gloo", "nccl"] | None = None
    timeout_s: float = 1800

    def __post_init__(self) -> None:
        if self.backend not in (None, "gloo", "nccl"):
            raise ValueError(f"TorchConfig.backend is {self.backend!r}; give 'gloo', 'nccl' or None")
        if self.timeout_s <= 0:
            raise ValueError(f"TorchConfig.timeout_s is {self.timeout_s!r}; give seconds above 0")

    def check(self) -> None:
        """torch must be found; without importing it."""
        import importlib.util

        if importlib.util.find_spec("torch") is None:
            import_torch()

    def rendezvous(self, facts: list[WorkerFacts], run_id: str) -> tuple[str, int]:
        """Address and port of the store."""
        torch = import_torch()
        alone = len({fact.node_id for fact in facts}) == 1 or len({fact.host for fact in facts}) == 1
        address = "127.0.0.1" if alone else facts[0].address
        store = torch.distributed.TCPStore(
            address, 0, len(facts), True, datetime.timedelta(seconds=self.timeout_s), wait_for_workers=False
        )
        _stores.append(store)
        return address, store.port

    def join(self, session: Session, meeting: tuple[str, int]) -> None:
        """Initialises the process group."""
        torch = import_torch()
        import torch.distributed as dist

        place, (address, port) = session.place, meeting
        torch.set_num_threads(max(1, int(session.run.resources.get("CPU", 1))))
        os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))
        if address == "127.0.0.1":
            # gloo otherwise binds to whatever the host's name resolves to, which need not be an address of this host.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        gpu = session.run.resources.get("GPU", 0) > 0
        backend = choose_backend(torch, self.backend, gpu)
        if gpu:
            torch.cuda.set_device(get_device())
        timeout = datetime.timedelta(seconds=self.timeout_s)
        store = (
            _stores[-1]
            if place.world_rank == 0
            else dist.TCPStore(address, port, place.world_size, False, timeout, wait_for_workers=False)
        )
        dist.init_process_group(
            backend, store=store, rank=place.world_rank, world_size=place.world_size, timeout=timeout
        )

    def leave(self, session: Session) -> None:
        """Leaves the process group, once all are there: a rank that leaves early fails the others' last collective."""
        import torch.distributed as dist

        if dist.is_initialized():
            if dist.get_backend() == "gloo":
                dist.barrier()
            dist.destroy_process_group()
        if session.place.world_size == 1:
            _stores.clear()  # of others it lives as long as rank 0's process, which may be the first to leave


def choose_backend(torch: Any, wanted: str | None, gpu: bool) -> str:
    """What torch.distributed is to use: `wanted`, or by whether the worker has reserved a GPU.

    Raises
    ------
    RuntimeError
        It would be NCCL, and the worker has no GPU or this torch cannot use it.
    """
    backend = wanted or ("nccl" if gpu else "gloo")
    if backend != "nccl":
        return backend
    why = "TorchConfig.backend is 'nccl'" if wanted else "the workers have GPUs, for which torch.distributed uses NCCL"
    if not gpu:
        raise RuntimeError(
            f"{why}, but the workers have reserved no GPU; set ScalingConfig(use_gpu=True), or use TorchConfig(backend='gloo')"
        )
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"{why}, but torch {torch.__version__} sees no GPU: it was built without CUDA, or the driver is missing; install "
            "a torch with CUDA, or train on CPUs (ScalingConfig(use_gpu=False))"
        )
    if not torch.distributed.is_nccl_available():
        raise RuntimeError(f"{why}, but torch {torch.__version__} was built without NCCL; use TorchConfig(backend='gloo')")
    return backend
