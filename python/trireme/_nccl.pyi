"""Groups of processes whose arrays lie in GPU memory, on NCCL; the compiled part of `trireme.util.collective` for backend
"nccl". There is none where Trireme was built without CUDA and NCCL.

An array is anything with `__dlpack__` in the memory of the member's device, contiguous; it is used in place. Operations are
queued on `stream`, a cudaStream_t as a number: the caller answers for the order with what made the arrays. None is CUDA's
legacy default stream, for which the producer's work is awaited through `__dlpack__`. Calls release the GIL.
"""

from collections.abc import Callable, Sequence
from typing import Any

def device_count() -> int:
    """How many CUDA devices this process sees; 0 without a driver."""

class Work:
    """What was queued, with its arrays. For one thread."""

    def wait(self) -> None:
        """Returns when all that is queued on its stream is done."""

    def test(self) -> bool: ...

class Communicator:
    def __init__(
        self,
        rank: int,
        size: int,
        exchange: Callable[[bytes, float], Sequence[bytes]],
        name: str,
        timeout: float,
        device: int,
    ) -> None:
        """As `_collective.Communicator`; CollectiveError "unavailable" on every member when one cannot use NCCL."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def close(self) -> None: ...
    def all_reduce(self, array: Any, op: int, stream: int | None) -> Work: ...
    def reduce(self, array: Any, root: int, op: int, stream: int | None) -> Work: ...
    def broadcast(self, array: Any, root: int, stream: int | None) -> Work: ...
    def all_gather(self, mine: Any, all: Any, stream: int | None) -> Work: ...
    def reduce_scatter(self, all: Any, mine: Any, op: int, stream: int | None) -> Work: ...
    def all_to_all(self, source: Any, target: Any, stream: int | None) -> Work: ...
    def send(self, array: Any, to: int, stream: int | None) -> Work: ...
    def recv(self, array: Any, source: int, stream: int | None) -> Work: ...
    def barrier(self, stream: int | None) -> None: ...
