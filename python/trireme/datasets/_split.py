"""A data set in two parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass
class Split:
    """Arrays to train on and arrays to test on, by name; in each part all have equally many rows."""

    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]


def split_rows(columns: Mapping[str, np.ndarray], test_fraction: float, seed: int) -> Split:
    """Shuffles the rows and takes the last part of them for testing.

    Parameters
    ----------
    columns
        Arrays with equally many rows.
    test_fraction
        Above 0 and below 1; both parts get at least one row.
    seed
        Of the order; the same seed gives the same parts.

    Raises
    ------
    ValueError
        The fraction, unequal lengths, fewer than two rows.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction!r}; give a fraction between 0 and 1")
    lengths = {name: len(column) for name, column in columns.items()}
    rows = next(iter(lengths.values()), 0)
    if len(set(lengths.values())) != 1 or rows < 2:
        raise ValueError(f"a data set needs arrays with equally many rows, at least 2; found {lengths}")
    order = np.random.default_rng(seed).permutation(rows)
    tested = min(rows - 1, max(1, round(rows * test_fraction)))
    train, test = order[: rows - tested], order[rows - tested :]
    return Split(
        {name: column[train] for name, column in columns.items()},
        {name: column[test] for name, column in columns.items()},
    )
