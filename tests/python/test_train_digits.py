"""The digits example and the example of docs/train.md, as a user runs them."""

# ctest: one rank
# ctest: timeout 300
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

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
    for name in ("checkpoint", "timeline"):
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


def test_the_documented_example_trains(tmp_path: Path) -> None:
    text = (ROOT / "docs/train.md").read_text()
    program = tmp_path / "program.py"
    program.write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1))
    done = run(program, TRIREME_STORAGE_PATH=str(tmp_path / "results"))
    assert done.returncode == 0, done.stdout + done.stderr
    loss = float(re.search(r"'loss': ([0-9.e-]+)", done.stdout).group(1))
    assert loss < 1e-6
