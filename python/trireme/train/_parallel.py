"""Data-parallel training with NumPy: gradients averaged over the workers while the backward pass goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trireme.train._session import current_session

BUCKET_BYTES = 1 << 20


class _Bucket:
    """Gradients that travel together, in one flat array."""

    def __init__(self, names: list[str], parameters: Mapping[str, np.ndarray]) -> None:
        first = parameters[names[0]]
        self.flat = np.zeros(sum(parameters[name].size for name in names), first.dtype)
        self.views: dict[str, np.ndarray] = {}
        at = 0
        for name in names:
            shape, size = parameters[name].shape, parameters[name].size
            self.views[name] = self.flat[at : at + size].reshape(shape)
            at += size
        self.missing = set(names)


class DataParallel:
    """Keeps the parameters of all workers alike: starts them from rank 0's, and averages the gradients.

    A backward pass hands in each gradient by `ready` as soon as it is known, the last layer's first. Gradients are put
    into buckets in that order; a full bucket is averaged in the background while the pass goes on. `gradients` waits.

    With one worker, or outside of a training function, nothing is sent.

    Parameters
    ----------
    parameters
        Name to array, float32 or float64, in the order of the forward pass, alike on all workers. Overwritten with
        rank 0's.
    bucket_bytes
        Size at which a bucket is sent.
    group
        Name of a collective group; the one that the trainer made when None.

    Notes
    -----
    Threading: one thread.
    Errors:    a worker's death raises on the others in `ready` or `gradients`.
    Exactness: all workers get the same bits. With ``CollectiveConfig(fixed_order=True)`` (the default) so does every
               run with the same number of workers.
    """

    def __init__(
        self, parameters: Mapping[str, np.ndarray], *, bucket_bytes: int = BUCKET_BYTES, group: str | None = None
    ) -> None:
        if not parameters:
            raise ValueError("DataParallel needs at least one parameter")
        for name, value in parameters.items():
            if not isinstance(value, np.ndarray) or value.dtype not in (np.float32, np.float64):
                kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
                raise TypeError(f"parameter {name!r} is {kind}; give NumPy arrays of float32 or float64")
        self._group = group if group is not None else _group_of_session()
        self._parameters = dict(parameters)
        self._buckets = _fill(self._parameters, bucket_bytes)
        self._bucket_of = {name: bucket for bucket in self._buckets for name in bucket.views}
        self._started = 0
        self._works: list[Any] = []
        self.broadcast()

    def broadcast(self) -> None:
        """Overwrites the parameters with rank 0's, in place."""
        if self._group is None:
            return
        from trireme.util import collective

        for name, value in self._parameters.items():
            flat = np.ascontiguousarray(value)
            collective.broadcast(flat, 0, group_name=self._group)
            if flat is not value:
                value[...] = flat.reshape(self._parameters[name].shape)

    def ready(self, name: str, gradient: np.ndarray) -> None:
        """Hands in a gradient; it is copied, so its memory is free at once. Each one once between two `gradients`."""
        bucket = self._bucket_of.get(name)
        if bucket is None:
            raise KeyError(f"no parameter {name!r}; there are: {', '.join(self._bucket_of)}")
        if name not in bucket.missing:
            raise ValueError(f"the gradient of {name!r} was handed in twice; call gradients() once for each step")
        bucket.views[name][...] = gradient
        bucket.missing.discard(name)
        # In the order of the buckets whatever the order of the calls: all workers must send the same one at a time.
        while self._started < len(self._buckets) and not self._buckets[self._started].missing:
            self._send(self._buckets[self._started])
            self._started += 1

    def gradients(self) -> dict[str, np.ndarray]:
        """The averages, once all gradients were handed in.

        Returns
        -------
        dict
            Name to array, in the order of the parameters; valid until the next `ready`.

        Raises
        ------
        ValueError
            Gradients are missing; says which.
        """
        missing = sorted(name for bucket in self._buckets for name in bucket.missing)
        if missing:
            raise ValueError(f"no gradient was handed in for {', '.join(missing)}")
        works, self._works = self._works, []
        for work in works:
            work.wait()
        self._started = 0
        for bucket in self._buckets:
            bucket.missing = set(bucket.views)
        return {name: self._bucket_of[name].views[name] for name in self._parameters}

    def average(self, gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`ready` for all of them, last first, and `gradients`."""
        for name in reversed(gradients):
            self.ready(name, gradients[name])
        return self.gradients()

    def _send(self, bucket: _Bucket) -> None:
        if self._group is not None:
            from trireme.util import collective

            self._works.append(collective.start_allreduce(bucket.flat, self._group, collective.ReduceOp.MEAN))


def _group_of_session() -> str | None:
    session = current_session()
    return session.state.get("group") if session is not None else None


def _fill(parameters: Mapping[str, np.ndarray], bucket_bytes: int) -> list[_Bucket]:
    """Buckets of one type each, from the last parameter to the first, since that is how gradients come."""
    buckets: list[list[str]] = []
    size = 0
    for name in reversed(parameters):
        value = parameters[name]
        same = bool(buckets) and parameters[buckets[-1][-1]].dtype == value.dtype
        if not same or size + value.nbytes > bucket_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(name)
        size += value.nbytes
    return [_Bucket(names, parameters) for names in buckets]
