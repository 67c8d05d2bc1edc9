"""A worker's part of a dataset: arrays by row, sequences and iterables by item."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

Batch = np.ndarray | dict[str, np.ndarray]


@dataclass
class DataConfig:
    """Which datasets are split among the workers.

    Parameters
    ----------
    datasets_to_split
        ``"all"``, or the names of those to split; every worker gets the others whole.
    equal
        Every worker gets equally many rows, and up to world size - 1 rows at the end are left out: then all workers
        make the same number of batches, which a synchronous training needs.
    """

    datasets_to_split: Literal["all"] | Sequence[str] = "all"
    equal: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.datasets_to_split, str) and self.datasets_to_split != "all":
            raise ValueError(
                f"DataConfig.datasets_to_split is {self.datasets_to_split!r}; give 'all' or a list of names"
            )

    def splits(self, name: str) -> bool:
        """Whether the dataset of that name is split."""
        return self.datasets_to_split == "all" or name in self.datasets_to_split


class DataShard:
    """The rows of one worker.

    Row ``i`` of the shard is row ``i * world_size + rank`` of the dataset, so that batches of all workers together
    are the rows of a batch of a single process, whatever the number of workers.

    Parameters
    ----------
    data
        An array (rows along the first axis), a dict of arrays with equally many rows, a sequence of rows, or any
        iterable of rows; a row is a dict of values or one value.
    rank, world_size
        This part among how many; 0 and 1 for the whole.
    equal
        As in `DataConfig`.

    Notes
    -----
    Threading: one thread. Arrays are read where they lie, in the object store; they are read-only and the views
    taken from them are copied only where a batch is put together.
    """

    def __init__(self, data: Any, rank: int = 0, world_size: int = 1, equal: bool = True) -> None:
        self._rank, self._world_size, self._equal = rank, world_size, equal
        self._columns: dict[str, np.ndarray] | None = None
        self._array: np.ndarray | None = None
        self._items: Sequence[Any] | None = None
        self._stream: Iterable[Any] | None = None
        if isinstance(data, Mapping):
            columns = {name: _as_array(column) for name, column in data.items()}
            lengths = {name: len(column) for name, column in columns.items()}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"the arrays of a dataset must have equally many rows; found {lengths}")
            if not columns:
                raise ValueError("a dataset that is a dict must hold at least one array")
            self._columns = {name: self._part(column) for name, column in columns.items()}
        elif hasattr(data, "__array__"):
            self._array = self._part(_as_array(data))
        elif isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
            self._items = self._part(data)
        elif isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
            self._stream = data
        else:
            raise TypeError(
                f"a dataset is an array, a dict of arrays, a sequence or an iterable of rows; not {type(data).__name__}"
            )

    def _part(self, rows: Any) -> Any:
        part = rows[self._rank :: self._world_size]
        return part[: len(rows) // self._world_size] if self._equal else part

    def __len__(self) -> int:
        """Number of rows. TypeError for a stream of rows, which has no length."""
        if self._columns is not None:
            return len(next(iter(self._columns.values())))
        if self._array is not None:
            return len(self._array)
        if self._items is not None:
            return len(self._items)
        raise TypeError("this dataset is a stream of rows: its length is known only after reading it")

    def count(self) -> int:
        """Number of rows; reads a stream to its end."""
        return sum(1 for _ in self.iter_rows()) if self._stream is not None else len(self)

    def to_numpy(self) -> Batch:
        """All rows of the shard: an array, or a dict of arrays."""
        if self._columns is not None:
            return dict(self._columns)
        return self._array if self._array is not None else _collate(list(self.iter_rows()))

    def iter_rows(self) -> Iterator[Any]:
        """Row by row: a dict of values when the dataset is a dict of arrays."""
        if self._columns is not None:
            for index in range(len(self)):
                yield {name: column[index] for name, column in self._columns.items()}
        elif self._array is not None:
            yield from self._array
        elif self._items is not None:
            yield from self._items
        else:
            yield from self._iter_stream()

    __iter__ = iter_rows

    def _iter_stream(self) -> Iterator[Any]:
        rows = iter(self._stream)
        while True:
            turn = list(itertools.islice(rows, self._world_size))
            if len(turn) == self._world_size or (not self._equal and self._rank < len(turn)):
                yield turn[self._rank]
            if len(turn) < self._world_size:
                return

    def iter_batches(
        self,
        *,
        batch_size: int | None = 256,
        batch_format: Literal["numpy", "default"] = "default",
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> Iterator[Batch]:
        """Batches of rows.

        Parameters
        ----------
        batch_size
            Rows of a batch; the whole shard as one when None.
        batch_format
            Only NumPy: an array, or a dict of arrays.
        drop_last
            Leaves the last batch out when it is smaller.
        local_shuffle_buffer_size
            Shuffles: arrays and sequences wholly whatever the number, streams within a buffer of so many rows.
        local_shuffle_seed
            For the same order each time; give a different one each epoch.
        """
        if batch_format not in ("numpy", "default"):
            raise ValueError(f"batch_format is {batch_format!r}; only 'numpy' is offered (or iter_torch_batches)")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give a number from 1 on, or None for all rows")
        rng = np.random.default_rng(local_shuffle_seed) if local_shuffle_buffer_size else None
        if self._stream is not None:
            rows = self._iter_stream()
            if rng is not None:
                rows = _shuffled(rows, local_shuffle_buffer_size, rng)
            yield from _batches_of(rows, batch_size, drop_last)
            return
        order = rng.permutation(len(self)) if rng is not None else None
        step = batch_size or max(len(self), 1)
        for start in range(0, len(self), step):
            if drop_last and start + step > len(self):
                return
            yield self._take(slice(start, start + step) if order is None else order[start : start + step])

    def iter_torch_batches(
        self,
        *,
        batch_size: int | None = 256,
        dtypes: torch.dtype | Mapping[str, torch.dtype] | None = None,
        device: str | torch.device | None = "auto",
        collate_fn: Callable[[Batch], Any] | None = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> Iterator[Any]:
        """`iter_batches` as torch tensors.

        Parameters
        ----------
        dtypes
            Of the tensors, one for all or by name; as the arrays have it when None.
        device
            Where they go: ``"auto"`` is the device of this worker.
        collate_fn
            Makes the batch from the NumPy batch instead; `dtypes` must then be None.
        """
        from trireme.train.torch._device import get_device, import_torch

        torch = import_torch()
        if collate_fn is not None and dtypes is not None:
            raise ValueError("iter_torch_batches: give collate_fn or dtypes, not both")
        target = get_device() if device == "auto" else device

        def tensor(array: np.ndarray, name: str | None) -> torch.Tensor:
            dtype = dtypes.get(name) if isinstance(dtypes, Mapping) else dtypes
            # Arrays in the object store are read-only, which torch cannot express: copied.
            made = torch.as_tensor(array if array.flags.writeable else array.copy(), dtype=dtype)
            return made.to(target) if target is not None else made

        for batch in self.iter_batches(
            batch_size=batch_size,
            drop_last=drop_last,
            local_shuffle_buffer_size=local_shuffle_buffer_size,
            local_shuffle_seed=local_shuffle_seed,
        ):
            if collate_fn is not None:
                yield collate_fn(batch)
            elif isinstance(batch, dict):
                yield {name: tensor(column, name) for name, column in batch.items()}
            else:
                yield tensor(batch, None)

    def _take(self, rows: slice | np.ndarray) -> Batch:
        if self._columns is not None:
            return {name: column[rows] for name, column in self._columns.items()}
        if self._array is not None:
            return self._array[rows]
        picked = self._items[rows] if isinstance(rows, slice) else [self._items[row] for row in rows]
        return _collate(picked)

    def __repr__(self) -> str:
        rows = "a stream of rows" if self._stream is not None else f"{len(self)} rows"
        return f"DataShard({rows}, part {self._rank} of {self._world_size})"


def shard_of(data: Any, rank: int, world_size: int, split: bool, equal: bool) -> DataShard:
    """A worker's part of a dataset, or all of it."""
    return DataShard(data, rank, world_size, equal) if split else DataShard(data)


def _as_array(data: Any) -> np.ndarray:
    array = data.numpy() if type(data).__module__.partition(".")[0] == "torch" else np.asarray(data)
    if array.ndim == 0:
        raise ValueError("a dataset's array needs at least one axis, along which its rows lie; found a scalar")
    return array


def _collate(rows: Sequence[Any]) -> Batch:
    if rows and isinstance(rows[0], Mapping):
        return {name: np.asarray([row[name] for row in rows]) for name in rows[0]}
    return np.asarray(rows)


def _shuffled(rows: Iterable[Any], buffer_size: int, rng: np.random.Generator) -> Iterator[Any]:
    held: list[Any] = []
    for row in rows:
        if len(held) < buffer_size:
            held.append(row)
            continue
        index = int(rng.integers(buffer_size))
        row, held[index] = held[index], row
        yield row
    rng.shuffle(held)
    yield from held


def _batches_of(rows: Iterator[Any], batch_size: int | None, drop_last: bool) -> Iterator[Batch]:
    while True:
        batch = list(rows) if batch_size is None else list(itertools.islice(rows, batch_size))
        if not batch or (drop_last and batch_size is not None and len(batch) < batch_size):
            return
        yield _collate(batch)
        if batch_size is None:
            return
