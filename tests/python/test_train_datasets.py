"""Loaders of trireme.datasets: what they read, and what they say about files that are bad."""

# ctest: one rank
from __future__ import annotations

import builtins
import gzip
import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest

from trireme import datasets


def idx(array: np.ndarray, code: int) -> bytes:
    """What MNIST's authors describe: two zero bytes, type, axes, the axes' lengths, the elements, all big-endian."""
    header = bytes([0, 0, code, array.ndim]) + b"".join(struct.pack(">I", length) for length in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
@pytest.mark.parametrize("compressed", [False, True])
def test_idx_gives_the_array_back(tmp_path: Path, code: int, dtype: str, compressed: bool) -> None:
    rng = np.random.default_rng(code)
    array = rng.integers(-100, 100, size=(3, 4, 5)).astype(dtype)
    data = idx(array, code)
    (tmp_path / "a").write_bytes(gzip.compress(data) if compressed else data)
    found = datasets.read_idx(tmp_path / "a")
    assert found.dtype == np.dtype(dtype) and found.dtype.isnative
    np.testing.assert_array_equal(found, array)


GOOD = idx(np.arange(6, dtype=np.uint8).reshape(2, 3), 8)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "nothing"),
        (b"\x01\x00\x08\x01", "not IDX"),
        (b"\x00\x00\x0a\x01\x00\x00\x00\x00", "not IDX"),
        (b"\x00\x00\x08\x00", "not IDX"),
        (GOOD[:9], "header"),
        (GOOD[:-1], "6 bytes; 5 follow"),
        (GOOD + b"x", "6 bytes; 7 follow"),
        (gzip.compress(GOOD)[:-6], "damaged or cut off"),
        # A header that asks for 2^64 elements must not make anybody allocate them.
        (b"\x00\x00\x08\x02" + b"\xff" * 8, "0 follow"),
    ],
)
def test_a_bad_idx_file_is_named_with_what_is_wrong(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(ValueError, match=says) as raised:
        datasets.read_idx(tmp_path / "bad")
    assert str(tmp_path / "bad") in str(raised.value)


def write_mnist(folder: Path, rows: int, labels: int) -> None:
    for part in ("train", "t10k"):
        images = np.full((rows, 28, 28), 255, np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images, 8)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(labels, dtype=np.uint8), 8))


def test_mnist_is_read_from_its_four_files(tmp_path: Path) -> None:
    write_mnist(tmp_path, 4, 4)
    split = datasets.load_mnist(tmp_path)
    assert split.train["image"].shape == (4, 784) and split.train["image"].dtype == np.float32
    assert split.train["image"].max() == 1.0
    np.testing.assert_array_equal(split.test["label"], np.arange(4))


def test_mnist_says_which_file_is_missing_and_when_files_do_not_match(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        datasets.load_mnist(tmp_path)
    write_mnist(tmp_path, 4, 3)
    with pytest.raises(ValueError, match="4 train images but labels of shape"):
        datasets.load_mnist(tmp_path)


def test_digits_are_the_ones_of_scikit_learn() -> None:
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn is not installed")
    split = datasets.load_digits(test_fraction=0.25, seed=3)
    assert len(split.train["image"]) + len(split.test["image"]) == 1797
    assert split.train["image"].shape[1] == 64
    # All ten digits, about equally often, as UCI describes the set.
    counts = np.bincount(np.concatenate([split.train["label"], split.test["label"]]))
    assert len(counts) == 10 and counts.min() >= 170
    again = datasets.load_digits(test_fraction=0.25, seed=3)
    np.testing.assert_array_equal(split.test["image"], again.test["image"])
    other = datasets.load_digits(test_fraction=0.25, seed=4)
    assert not np.array_equal(split.test["label"], other.test["label"])


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="python3-sklearn"):
        datasets.load_digits()


def test_split_parts_are_disjoint_and_whole() -> None:
    split = datasets.split_rows({"a": np.arange(10), "b": np.arange(10) * 2}, 0.3, 0)
    assert sorted(np.concatenate([split.train["a"], split.test["a"]])) == list(range(10))
    assert len(split.test["a"]) == 3
    np.testing.assert_array_equal(split.train["b"], split.train["a"] * 2)


@pytest.mark.parametrize(
    ("columns", "fraction", "says"),
    [
        ({"a": np.arange(3)}, 0.0, "test_fraction"),
        ({"a": np.arange(3)}, 1.0, "test_fraction"),
        ({"a": np.arange(3), "b": np.arange(4)}, 0.5, "equally many rows"),
        ({"a": np.arange(1)}, 0.5, "at least 2"),
    ],
)
def test_a_split_that_cannot_be_is_refused(columns: dict, fraction: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        datasets.split_rows(columns, fraction, 0)


class TestHdf5:
    """What read_hdf5 gives and refuses."""

    @pytest.fixture()
    def file(self, tmp_path: Path) -> Path:
        h5py = pytest.importorskip("h5py")
        path = tmp_path / "d.h5"
        with h5py.File(path, "w") as file:
            file["x"] = np.arange(12, dtype=np.float32).reshape(4, 3)
            file["in/y"] = np.arange(4)
            file["short"] = np.arange(3)
            file["scalar"] = 1.0
        return path

    def test_reads_all_rows_or_some(self, file: Path) -> None:
        found = datasets.read_hdf5(file, ["x", "in/y"])
        np.testing.assert_array_equal(found["x"], np.arange(12, dtype=np.float32).reshape(4, 3))
        part = datasets.read_hdf5(file, ["x", "in/y"], rows=slice(1, 3))
        np.testing.assert_array_equal(part["in/y"], [1, 2])

    @pytest.mark.parametrize(
        ("names", "kind", "says"),
        [
            (["nope"], KeyError, "it has: .*in/y"),
            (["in"], ValueError, "is a group"),
            (["scalar"], ValueError, "is a scalar"),
            (["x", "short"], ValueError, "equally many rows"),
            ([], ValueError, "at least one"),
        ],
    )
    def test_says_what_is_wrong_with_the_names(self, file: Path, names: list, kind: type, says: str) -> None:
        with pytest.raises(kind, match=says):
            datasets.read_hdf5(file, names)

    def test_says_when_the_file_is_missing_or_damaged(self, file: Path, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            datasets.read_hdf5(tmp_path / "nope.h5", ["x"])
        (tmp_path / "text.h5").write_text("hello")
        with pytest.raises(ValueError, match="no HDF5 file"):
            datasets.read_hdf5(tmp_path / "text.h5", ["x"])
        (tmp_path / "cut.h5").write_bytes(file.read_bytes()[:1500])
        with pytest.raises(ValueError, match="damaged"):
            datasets.read_hdf5(tmp_path / "cut.h5", ["x"])

    def test_says_what_to_install(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without_h5py(name: str, *args: object, **kwargs: object) -> object:
            if name == "h5py":
                raise ImportError("No module named 'h5py'")
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without_h5py)
        with pytest.raises(ImportError, match="python3-h5py"):
            datasets.read_hdf5(file, ["x"])
