"""Small data sets for training: NumPy arrays from files that are there, nothing is downloaded."""

from trireme.datasets._digits import load_digits
from trireme.datasets._hdf5 import read_hdf5
from trireme.datasets._idx import load_mnist, read_idx
from trireme.datasets._split import Split, split_rows

__all__ = ["Split", "load_digits", "load_mnist", "read_hdf5", "read_idx", "split_rows"]
