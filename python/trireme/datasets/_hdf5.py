"""Arrays of an HDF5 file."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np


def read_hdf5(path: str | os.PathLike[str], names: Sequence[str], rows: slice | None = None) -> dict[str, np.ndarray]:
    """Reads data sets with equally many rows.

    Parameters
    ----------
    path
        The file.
    names
        Of its data sets, with their groups: ``"images"``, ``"train/label"``.
    rows
        Which rows; all when None.

    Returns
    -------
    dict
        Name to array.

    Raises
    ------
    ImportError
        h5py is not installed; says how to get it.
    FileNotFoundError
        There is no such file.
    KeyError
        A data set is missing; says which the file has.
    ValueError
        It is no HDF5 file, a name is a group or a scalar, the numbers of rows differ, or the data is cut off.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "reading HDF5 needs h5py: install it (Debian: apt install python3-h5py; elsewhere: pip install h5py)"
        ) from error
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
    if not names:
        raise ValueError("read_hdf5() needs the name of at least one data set")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{os.fspath(path)}: no HDF5 file, or damaged ({error})") from error
    with file:
        found = {name: _dataset(h5py, file, name) for name in names}
        lengths = {name: dataset.shape[0] for name, dataset in found.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{os.fspath(path)}: the data sets must have equally many rows; found {lengths}")
        try:
            return {name: dataset[rows if rows is not None else slice(None)] for name, dataset in found.items()}
        except OSError as error:
            raise ValueError(f"{os.fspath(path)}: cannot be read, damaged or cut off ({error})") from error


def _dataset(h5py: object, file: object, name: str) -> object:
    if name not in file:
        present: list[str] = []
        file.visititems(lambda key, item: present.append(key) if isinstance(item, h5py.Dataset) else None)
        raise KeyError(f"{file.filename} has no data set {name!r}; it has: {', '.join(present) or 'none'}")
    item = file[name]
    if not isinstance(item, h5py.Dataset):
        raise ValueError(f"{file.filename}: {name!r} is a group, no data set")
    if not item.shape:
        raise ValueError(f"{file.filename}: {name!r} is a scalar; a data set with rows is needed")
    return item
