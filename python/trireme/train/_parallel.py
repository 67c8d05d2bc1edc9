"""Data-parallel training without torch.distributed: gradients averaged while the backward pass goes on."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trireme.train._session import current_session

if TYPE_CHECKING:
    import torch

    Array = np.ndarray | torch.Tensor

BUCKET_BYTES = 1 << 20
FLOATING = ("float16", "bfloat16", "float32", "float64")


class DataParallel:
    """Keeps the parameters of all workers alike: starts them from rank 0's, and averages the gradients.

    A backward pass hands in each gradient by `ready` as soon as it is known, the last layer's first. Gradients lie in
    buckets in that order; a full bucket is averaged in the background while the pass goes on. `wait` ends the step.
    This is C++'s `trireme::ml::DataParallel` on the arrays' own memory.

    With one worker, or outside of a training function, nothing is sent.

    Parameters
    ----------
    parameters
        Name to array, in the order of the forward pass, alike on all workers; or the arrays alone, whose names are then
        their numbers. NumPy arrays or torch tensors on the CPU, floating point, contiguous. Overwritten with rank 0's.
    bucket_bytes
        Size at which a bucket is sent.
    group
        Name of a collective group; the one that the trainer made when None.

    Notes
    -----
    Threading: one thread.
    Errors:    a worker's death raises on the others in `ready` or `wait`, a `CollectiveError` that names it.
    Exactness: all workers get the same bits. With ``CollectiveConfig(fixed_order=True)`` (the default) so does every
               run with the same number of workers.
    """

    def __init__(
        self,
        parameters: Mapping[Any, Array] | Iterable[Array],
        *,
        bucket_bytes: int = BUCKET_BYTES,
        group: str | None = None,
    ) -> None:
        named = dict(parameters if isinstance(parameters, Mapping) else enumerate(parameters))
        if not named:
            raise ValueError("DataParallel needs at least one parameter")
        for name, value in named.items():
            _check(name, value)
        from trireme.util.collective.types import native

        self._native = native().DataParallel(_group(group), list(named.values()), bucket_bytes)
        self._index = {name: index for index, name in enumerate(named)}
        self._gradients = {
            name: _like(value, self._native.gradient(self._index[name])) for name, value in named.items()
        }

    @property
    def buckets(self) -> int:
        """How many buckets the gradients fill, which is how many messages a step takes."""
        return self._native.buckets

    def broadcast(self) -> None:
        """Overwrites the parameters with rank 0's, in place. All workers call it."""
        self._native.broadcast()

    def gradient(self, name: Hashable) -> Array:
        """Where the gradient of a parameter lies: an array or tensor like the parameter.

        What computes a gradient here and then calls `ready(name)` copies nothing. After `wait` it is the average.
        """
        return self._gradients[self._known(name)]

    def ready(self, name: Hashable, gradient: Array | None = None) -> None:
        """The gradient is known: `gradient` is copied, so its memory is free at once; None when it lies in place.

        Each one once in a step, in any order; the buckets are sent in one order.
        """
        index = self._index[self._known(name)]
        if self._native.is_ready(index):
            raise ValueError(f"the gradient of {name!r} was handed in twice; call wait() or gradients() once a step")
        if gradient is not None:
            gradient = _as(gradient, self._gradients[name], name)
        self._native.ready(index, gradient)

    def is_averaged(self, name: Hashable) -> bool:
        """Whether this gradient, handed in in this step, is the average already."""
        return self._native.is_averaged(self._index[self._known(name)])

    def wait(self) -> None:
        """Returns when all gradients are averages.

        Raises
        ------
        ValueError
            Gradients are missing; says which.
        """
        missing = sorted(str(name) for name, index in self._index.items() if not self._native.is_ready(index))
        if missing:
            raise ValueError(f"no gradient was handed in for {', '.join(missing)}")
        self._native.wait()

    def gradients(self) -> dict[Any, Array]:
        """`wait`, and the averages: name to array, in the order of the parameters; valid until the next `ready`."""
        self.wait()
        return dict(self._gradients)

    def average(self, gradients: Mapping[Any, Array]) -> dict[Any, Array]:
        """`ready` for all of them, last first, and `gradients`."""
        for name in reversed(gradients):
            self.ready(name, gradients[name])
        return self.gradients()

    def _known(self, name: Hashable) -> Hashable:
        if name not in self._index:
            raise KeyError(f"no parameter {name!r}; there are: {', '.join(map(str, self._index))}")
        return name


def _group(name: str | None) -> Any:
    """The communicator of that name, of the session, or one of this process alone."""
    if name is None:
        session = current_session()
        name = session.state.get("group") if session is not None else None
    if name is not None:
        from trireme.util.collective import get_group

        return get_group(name)
    from trireme.util.collective.types import native

    return native().Communicator(0, 1, lambda mine, timeout: [mine], "alone")


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _check(name: Hashable, value: Any) -> None:
    tensor = _is_tensor(value)
    if not tensor and not isinstance(value, np.ndarray):
        raise TypeError(f"parameter {name!r} is {type(value).__name__}; give NumPy arrays or torch tensors")
    kind = str(value.dtype).removeprefix("torch.")
    if kind not in FLOATING:
        raise TypeError(f"parameter {name!r} is {kind}; parameters are of {', '.join(FLOATING)}")
    if tensor and value.device.type != "cpu":
        raise TypeError(
            f"parameter {name!r} lies on {value.device}; this group reduces on the CPU (for GPUs: TorchTrainer)"
        )
    if not (value.is_contiguous() if tensor else value.flags.c_contiguous):
        raise ValueError(f"parameter {name!r} is not contiguous; give a contiguous copy and use that from then on")


def _like(parameter: Array, memory: Any) -> Array:
    """The memory as what the parameter is."""
    if not isinstance(parameter, np.ndarray):
        torch = sys.modules["torch"]
        if parameter.numel() == 0:
            return torch.zeros_like(parameter, requires_grad=False)
        return torch.frombuffer(memory, dtype=parameter.dtype).reshape(parameter.shape)
    if parameter.size == 0:
        return np.zeros_like(parameter)
    return np.frombuffer(memory, parameter.dtype).reshape(parameter.shape)


def _as(gradient: Any, own: Array, name: Hashable) -> Any:
    """The gradient with its parameter's type, laid out row by row."""
    if not _is_tensor(gradient):
        gradient = np.asarray(gradient)
    if tuple(gradient.shape) != tuple(own.shape):
        raise ValueError(
            f"the gradient of {name!r} has the shape {tuple(gradient.shape)}, the parameter {tuple(own.shape)}"
        )
    if isinstance(own, np.ndarray):
        return np.ascontiguousarray(gradient, own.dtype)
    torch = sys.modules["torch"]
    return torch.as_tensor(gradient).detach().to(device="cpu", dtype=own.dtype).contiguous()
