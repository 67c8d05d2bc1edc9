"""The digits example and the examples of docs/train.md and docs/tune.md, as a user runs them."""

# ctest: one rank
# ctest: timeout 300
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=250,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python"), **environment},
    )


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_the_search_survives_a_death_and_finds_a_good_network(tmp_path: Path) -> None:
    done = run(ROOT / "examples/digits/main.py", "--trials", "4", "--output", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(re.search(r"best test accuracy ([0-9.]+)", done.stdout).group(1)) > 0.97
    assert "kills itself in epoch 2" in done.stdout + done.stderr
    assert "restart 1" in done.stdout + done.stderr
    drawn = importlib.util.find_spec("matplotlib") is not None
    for name in ("checkpoint", "timeline", *(["plot"] if drawn else [])):
        assert Path(re.search(rf"^{name} +(/\S+)", done.stdout, re.MULTILINE).group(1)).exists()
    checkpoint = re.search(r"^checkpoint +(/\S+)", done.stdout, re.MULTILINE).group(1)
    assert os.listdir(checkpoint) == ["state.npz"]


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_a_search_that_is_not_good_enough_fails(tmp_path: Path) -> None:
    done = run(
        ROOT / "examples/digits/main.py", "--trials", "1", "--epochs", "2", "--no-death", "--need", "0.9999",
        "--output", tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no trial got above 0.9999" in done.stderr


def striped(rows: int, side: int) -> dict[str, np.ndarray]:
    """Pictures of ten classes: each a bright row and a bright column of its own, in noise."""
    rng = np.random.default_rng(0)
    label = rng.permutation(np.arange(rows) % 10)
    image = rng.integers(0, 100, (rows, side, side), dtype=np.uint8)
    image[np.arange(rows), label + 3] = 255
    image[np.arange(rows), :, 2 * label + 1] = 255
    return {"image": image, "label": label.astype(np.uint8)}


def write_mnist(folder: Path) -> list[str | Path]:
    """Four files in MNIST's format: magic number (type 8, dimensions), sizes, bytes."""
    for part, rows in (("train", 600), ("t10k", 200)):
        columns = striped(rows, 28)
        for kind, values in (("images-idx3", columns["image"]), ("labels-idx1", columns["label"])):
            head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + values.tobytes())
    return ["--mnist", folder]


def write_hdf5(folder: Path) -> list[str | Path]:
    import h5py

    columns = striped(800, 20)
    with h5py.File(folder / "data.h5", "w") as file:
        file["image"] = columns["image"].reshape(800, -1).astype("f4") / 255
        file["label"] = columns["label"]
    return ["--hdf5", folder / "data.h5"]


@pytest.mark.parametrize(
    ("write", "trainer", "needs"),
    [(write_mnist, "numpy", "numpy"), (write_hdf5, "numpy", "h5py"), (write_mnist, "torch", "torch")],
    ids=["MNIST's files", "HDF5", "MNIST's files, torch"],
)
def test_the_example_trains_on_the_users_files(tmp_path: Path, write: Any, trainer: str, needs: str) -> None:
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    done = run(
        ROOT / "examples/digits/main.py", *write(tmp_path), "--trainer", trainer, "--trials", "2", "--epochs", "4",
        "--no-death", "--need", "0.9", "--output", tmp_path / "results",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^(600 images to train on, 200|640 images to train on, 160) to test on", done.stdout)


def programs(page: str) -> list[str]:
    """The Python of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def test_the_documented_training_trains(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(programs("train.md")[0])
    done = run(program, TRIREME_STORAGE_PATH=str(tmp_path / "results"))
    assert done.returncode == 0, done.stdout + done.stderr
    loss = float(re.search(r"'loss': ([0-9.e-]+)", done.stdout).group(1))
    assert loss < 1e-6


def test_the_documented_step_averages_in_place() -> None:
    from trireme import train

    parallel = train.DataParallel({"w2": np.zeros((3, 2))})
    names = {"np": np, "parallel": parallel, "hidden": np.arange(12.0).reshape(4, 3), "slope": np.ones((4, 2))}
    exec(programs("train.md")[1], names)
    np.testing.assert_array_equal(parallel.gradients()["w2"], [[18, 18], [22, 22], [26, 26]])


def test_the_documented_search_searches_and_is_restored(tmp_path: Path) -> None:
    search, restore = programs("tune.md")
    program = tmp_path / "program.py"
    program.write_text(search + restore + "print(len(results), 'trials,', results.num_errors, 'errors')")
    done = run(program, HOME=str(tmp_path), TRIREME_STORAGE_PATH="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "24 trials, 0 errors" in done.stdout
    assert (tmp_path / "trireme_results/first/results.png").exists() or importlib.util.find_spec("matplotlib") is None
