"""The handwritten digits that scikit-learn ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from trireme.datasets._split import Split, split_rows

_PIXEL_MAX = 16


def load_digits(test_fraction: float = 0.2, seed: int = 0) -> Split:
    """1,797 handwritten digits of 8 x 8 pixels (UCI, optical recognition of handwritten digits).

    Read from the file that scikit-learn installs, without importing scikit-learn (which takes seconds).

    Parameters
    ----------
    test_fraction, seed
        As in `split_rows`.

    Returns
    -------
    Split
        ``image``: float32 of shape (rows, 64), 0 to 1. ``label``: int64, 0 to 9.

    Raises
    ------
    ImportError
        scikit-learn is not installed; says how to get it.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None:
        raise ImportError(
            "the handwritten digits come with scikit-learn: install it (Debian: apt install python3-sklearn; else: "
            "pip install scikit-learn), or use load_mnist() or read_hdf5() with files of your own"
        )
    file = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if file.exists():
        table = np.loadtxt(file, delimiter=",")
        images, labels = table[:, :-1], table[:, -1]
    else:
        from sklearn.datasets import load_digits as load

        images, labels = load(return_X_y=True)
    columns = {"image": (images / _PIXEL_MAX).astype(np.float32), "label": labels.astype(np.int64)}
    return split_rows(columns, test_fraction, seed)
