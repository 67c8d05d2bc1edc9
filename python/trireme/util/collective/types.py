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


class BackendUnavailableError(RuntimeError):
    """The backend asked for cannot be used: built without it, or a member without a GPU (named)."""


class Backend:
    """How a group moves its arrays. NCCL: on GPUs. All others mean the same: shared memory inside a node, UCX between nodes."""

    AUTO = "auto"
    CPU = "cpu"
    GLOO = "gloo"
    NCCL = "nccl"

    @staticmethod
    def check(name: str) -> str:
        """The backend of that name, "cpu" or "nccl".

        Raises
        ------
        ValueError
            There is none.
        """
        lowered = str(name).lower()
        if lowered in (Backend.AUTO, Backend.CPU, Backend.GLOO, "torch_gloo"):
            return Backend.CPU
        if lowered == Backend.NCCL:
            return Backend.NCCL
        raise ValueError(f"no backend {name!r}; there are: auto, cpu, gloo, nccl")


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
