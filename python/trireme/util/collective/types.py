"""Names that calls of `trireme.util.collective` take."""

from __future__ import annotations

import enum
from typing import Any


class ReduceOp(enum.IntEnum):
    """How elements of different members are combined. Integers wrap around; a mean of integers is cut toward zero."""

    SUM = 0
    PRODUCT = 1
    MIN = 2
    MAX = 3
    MEAN = 4


class Backend:
    """How a group moves its arrays. All names but NCCL mean the same: shared memory inside a node, UCX between nodes."""

    AUTO = "auto"
    CPU = "cpu"
    GLOO = "gloo"
    NCCL = "nccl"

    @staticmethod
    def check(name: str) -> str:
        """The backend of that name.

        Raises
        ------
        ValueError
            There is none.
        NotImplementedError
            For "nccl": Python groups reduce on the CPU; torch.distributed offers NCCL to torch tensors.
        """
        lowered = str(name).lower()
        if lowered in (Backend.AUTO, Backend.CPU, Backend.GLOO, "torch_gloo"):
            return Backend.CPU
        if lowered == Backend.NCCL:
            raise NotImplementedError(
                "backend 'nccl': groups of Python processes reduce on the CPU (backend='auto'). For tensors on a GPU use "
                "torch.distributed with NCCL (trireme.train.torch sets it up); C++ has trireme::ml::NcclGroup"
            )
        raise ValueError(f"no backend {name!r}; there are: auto, cpu, gloo")


def __getattr__(name: str) -> Any:
    if name == "CollectiveError":
        return native().CollectiveError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def native() -> Any:
    """The compiled module.

    Raises
    ------
    ImportError
        It was not built; says how.
    """
    try:
        from trireme import _collective
    except ImportError as error:
        raise ImportError(
            "trireme._collective is not built; configure with TRIREME_PYTHON=ON and build the target "
            f"trireme_python_collective ({error})"
        ) from error
    return _collective
