"""Groups of backend "nccl": arrays in GPU memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from trireme.util.collective.types import BackendUnavailableError, native

_CUDA = (2, 13)  # DLPack's device types: memory of a device, and managed memory


class NcclCommunicator:
    """A group with the operations of the CPU's communicator, for arrays on one CUDA device.

    Operations on torch tensors are queued on torch's current stream of that device: in order with what torch queued before
    and queues later. For other libraries it is CUDA's legacy default stream, where the producer's work is awaited first.
    Blocking forms return when the host has seen the stream done, so that their results can be used from any stream.
    `start_*` return once the operation is queued; what is queued later on the same stream sees the result without `wait()`.

    Threading: one thread. Errors: CollectiveError as for the CPU; TypeError for what does not lie on a GPU, ValueError for
    another device than the member's.

    Raises
    ------
    BackendUnavailableError
        Trireme was built without NCCL, or some member (named) has no CUDA device.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        exchange: Callable[[bytes, float], Sequence[bytes]],
        name: str,
        timeout: float,
        device: int | None = None,
    ) -> None:
        module = _native_nccl()
        self.name = name
        self.device = _current_device() if device is None else device
        try:
            self._group = module.Communicator(rank, size, exchange, name, timeout, self.device)
        except native().CollectiveError as error:
            if error.code != "unavailable":
                raise
            raise BackendUnavailableError(f"backend 'nccl': {error}") from error

    @property
    def rank(self) -> int:
        """This member's rank."""
        return self._group.rank

    @property
    def size(self) -> int:
        """How many members there are."""
        return self._group.size

    def close(self) -> None:
        """Leaves; waits some seconds for the others to leave too."""
        self._group.close()

    def start_all_reduce(self, array: Any, op: int = 0) -> Any:
        """Every member's array becomes the combination of all."""
        return self._group.all_reduce(array, op, self._stream(array))

    def start_reduce(self, array: Any, root: int, op: int = 0) -> Any:
        """The array of `root` becomes the combination of all."""
        return self._group.reduce(array, root, op, self._stream(array))

    def start_broadcast(self, array: Any, root: int) -> Any:
        """Every member's array becomes that of `root`."""
        return self._group.broadcast(array, root, self._stream(array))

    def start_all_gather(self, mine: Any, all: Any) -> Any:
        """`all` becomes every member's `mine`, by rank."""
        return self._group.all_gather(mine, all, self._stream(mine, all))

    def start_reduce_scatter(self, all: Any, mine: Any, op: int = 0) -> Any:
        """`mine` becomes this member's part of the combination of `all`."""
        return self._group.reduce_scatter(all, mine, op, self._stream(all, mine))

    def start_all_to_all(self, source: Any, target: Any) -> Any:
        """Part i of `source` goes to member i; part i of `target` comes from there."""
        return self._group.all_to_all(source, target, self._stream(source, target))

    def start_send(self, array: Any, to: int, tag: int = 0) -> Any:
        """To the `recv` of `to`, in order; NCCL has no tags."""
        _no_tag(tag)
        return self._group.send(array, to, self._stream(array))

    def start_recv(self, array: Any, source: int, tag: int = 0) -> Any:
        """From the `send` of `source`, in order; NCCL has no tags."""
        _no_tag(tag)
        return self._group.recv(array, source, self._stream(array))

    def start_barrier(self) -> Any:
        """Not there: a barrier on a stream would hold back nothing on the host."""
        raise NotImplementedError("a group of backend 'nccl' has no start_barrier(); call barrier()")

    def all_reduce(self, array: Any, op: int = 0) -> None:
        """As `start_all_reduce`, and waits."""
        self.start_all_reduce(array, op).wait()

    def reduce(self, array: Any, root: int, op: int = 0) -> None:
        """As `start_reduce`, and waits."""
        self.start_reduce(array, root, op).wait()

    def broadcast(self, array: Any, root: int) -> None:
        """As `start_broadcast`, and waits."""
        self.start_broadcast(array, root).wait()

    def all_gather(self, mine: Any, all: Any) -> None:
        """As `start_all_gather`, and waits."""
        self.start_all_gather(mine, all).wait()

    def reduce_scatter(self, all: Any, mine: Any, op: int = 0) -> None:
        """As `start_reduce_scatter`, and waits."""
        self.start_reduce_scatter(all, mine, op).wait()

    def all_to_all(self, source: Any, target: Any) -> None:
        """As `start_all_to_all`, and waits."""
        self.start_all_to_all(source, target).wait()

    def send(self, array: Any, to: int, tag: int = 0) -> None:
        """As `start_send`, and waits."""
        self.start_send(array, to, tag).wait()

    def recv(self, array: Any, source: int, tag: int = 0) -> None:
        """As `start_recv`, and waits."""
        self.start_recv(array, source, tag).wait()

    def barrier(self) -> None:
        """Waits for this member's current stream, then for all members."""
        self._group.barrier(self._stream_of_torch() if "torch" in sys.modules else None)

    def _stream(self, *arrays: Any) -> int | None:
        """The stream for an operation on these, once it is sure that they can take part."""
        for array in arrays:
            _check_place(array, self.device)
        torch = sys.modules.get("torch")
        if torch is not None and all(isinstance(array, torch.Tensor) for array in arrays):
            return self._stream_of_torch()
        return None

    def _stream_of_torch(self) -> int | None:
        torch = sys.modules["torch"]
        return torch.cuda.current_stream(self.device).cuda_stream if torch.cuda.is_available() else None


def _native_nccl() -> Any:
    native()  # says how to build what both need
    try:
        from trireme import _nccl
    except ImportError as error:
        raise BackendUnavailableError(
            "backend 'nccl': this Trireme was built without NCCL, or its libraries are not found here; build it where CMake "
            f"finds the CUDA toolkit and NCCL (TRIREME_CUDA=ON), or use backend='cpu' ({error})"
        ) from error
    return _nccl


def _current_device() -> int:
    torch = sys.modules.get("torch")
    return torch.cuda.current_device() if torch is not None and torch.cuda.is_available() else 0


def _check_place(array: Any, device: int) -> None:
    if not hasattr(array, "__dlpack__") or not hasattr(array, "__dlpack_device__"):
        raise TypeError(
            f"a {type(array).__name__} was given to a group of backend 'nccl', which takes CUDA tensors of torch and anything "
            "else with __dlpack__ on a GPU"
        )
    kind, number = array.__dlpack_device__()
    if int(kind) not in _CUDA:
        raise TypeError(
            f"a {type(array).__name__} that does not lie on a GPU was given to a group of backend 'nccl'; move it "
            "(tensor.cuda()), or make the group with backend='cpu'"
        )
    if number != device:
        raise ValueError(
            f"a {type(array).__name__} lies on CUDA device {number}, this member of the group is on device {device}; a member "
            "has one device (init_collective_group(..., device=...))"
        )


def _no_tag(tag: int) -> None:
    if tag != 0:
        raise ValueError(f"tag {tag}: NCCL has no tags, messages of a group of backend 'nccl' pair up in order")
