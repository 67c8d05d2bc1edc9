"""MNIST's own file format, IDX: a header of big-endian numbers and one array."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from trireme.datasets._split import Split

# The third byte of the header.
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_AXES_MAX = 8
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an IDX file, also one compressed with gzip (told by its content).

    Returns
    -------
    np.ndarray
        With the shape and type of the file, in the byte order of this machine.

    Raises
    ------
    ValueError
        It is no IDX file, it is cut off, or more follows than its header says; says what was found.
    OSError
        The file cannot be read.
    """
    data = Path(path).read_bytes()
    if data[:2] == _GZIP_MAGIC:
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{os.fspath(path)}: the gzip file is damaged or cut off ({error})") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or not 1 <= data[3] <= _AXES_MAX:
        raise ValueError(
            f"{os.fspath(path)}: not IDX: it must begin with two zero bytes, a type (8, 9, 11 to 14) and the number of "
            f"axes (1 to {_AXES_MAX}); found {data[:4].hex(' ') or 'nothing'}"
        )
    axes = data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise ValueError(f"{os.fspath(path)}: cut off in its header: {len(data)} bytes, of {start} for {axes} axes")
    shape = struct.unpack(f">{axes}I", data[4:start])
    dtype = np.dtype(_TYPES[data[2]])
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) - start != wanted:
        raise ValueError(
            f"{os.fspath(path)}: the header says {' x '.join(map(str, shape))} elements of {dtype.itemsize} byte(s), "
            f"{wanted} bytes; {len(data) - start} follow"
        )
    array = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def load_mnist(folder: str | os.PathLike[str]) -> Split:
    """MNIST, or a set in its format (Fashion-MNIST, ...), from its four files.

    Parameters
    ----------
    folder
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
        ``t10k-labels-idx1-ubyte``, each with or without ``.gz``.

    Returns
    -------
    Split
        ``image``: float32 of shape (rows, pixels), 0 to 1. ``label``: int64.

    Raises
    ------
    FileNotFoundError
        A file is missing; says which.
    ValueError
        A file is damaged, or images and labels do not belong together.
    """
    return Split(_part(Path(folder), "train"), _part(Path(folder), "t10k"))


def _part(folder: Path, part: str) -> dict[str, np.ndarray]:
    images = read_idx(_find(folder, f"{part}-images-idx3-ubyte"))
    labels = read_idx(_find(folder, f"{part}-labels-idx1-ubyte"))
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(
            f"{folder}: {part} images are {images.ndim}-dimensional {images.dtype}; MNIST has 3-dimensional uint8"
        )
    if labels.shape != (len(images),):
        raise ValueError(f"{folder}: {len(images)} {part} images but labels of shape {labels.shape}")
    flat = images.reshape(len(images), -1)
    return {"image": flat.astype(np.float32) / 255, "label": labels.astype(np.int64)}


def _find(folder: Path, name: str) -> Path:
    # Some distributions write a dot where others write a hyphen.
    for candidate in (name, name.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            if (folder / (candidate + suffix)).exists():
                return folder / (candidate + suffix)
    raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz")
