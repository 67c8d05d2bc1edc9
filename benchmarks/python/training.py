"""Data-parallel training with NumPy: how many samples a second by how many workers, with the same global batch.

usage: training.py trireme throughput|silent|pairs [workers=2] [batch=256] [width=512] [steps=25]

Each worker computes with one thread. The clock of rank 0 runs over whole steps, after a first few; starting workers is not in it.
`silent`: the workers average nothing, each trains for itself on its part; no way of averaging can be faster.
`pairs`: what waiting for the later one of two silent workers after each step would leave of their rate.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from typing import Any

# Before NumPy: its threads would be the second worker's core.
for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[library] = "1"

import numpy as np  # noqa: E402
import runtime  # noqa: E402

INPUTS, CLASSES, WARM_UP = 784, 10, 3


def train_loop(config: dict[str, Any]) -> None:
    """A network with two hidden layers on noise: what it learns does not matter here."""
    from trireme import train

    context, width = train.get_context(), config["width"]
    rows = config["batch"] // context.get_world_size()
    rng = np.random.default_rng(context.get_world_rank())
    shapes = {"w1": (INPUTS, width), "b1": width, "w2": (width, width), "b2": width, "w3": (width, CLASSES), "b3": CLASSES}
    weights = {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    pixels = rng.random((rows, INPUTS), dtype=np.float32)
    truth = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, rows)]
    parallel = train.DataParallel(weights)

    def step() -> None:
        first = np.maximum(pixels @ weights["w1"] + weights["b1"], 0)
        second = np.maximum(first @ weights["w2"] + weights["b2"], 0)
        slope = second @ weights["w3"] + weights["b3"] - truth
        slope /= rows
        for layer, below in ((3, second), (2, first), (1, pixels)):
            slope.sum(axis=0, out=parallel.gradient(f"b{layer}"))
            parallel.ready(f"b{layer}")
            np.matmul(below.T, slope, out=parallel.gradient(f"w{layer}"))
            parallel.ready(f"w{layer}")
            if layer > 1:
                slope = slope @ weights[f"w{layer}"].T * (below > 0)
        for name, gradient in parallel.gradients().items():
            weights[name] -= np.float32(0.01) * gradient

    for _ in range(WARM_UP):
        step()
    marks = [time.perf_counter()]
    for _ in range(config["steps"]):
        step()
        marks.append(time.perf_counter())
    if folder := config.get("marks"):
        np.save(os.path.join(folder, f"{context.get_world_rank()}.npy"), np.diff(marks))
    train.report({"samples_per_s": config["steps"] * config["batch"] / (marks[-1] - marks[0])})


def throughput(chosen: dict[str, Any], silent: bool = False) -> float:
    from trireme import train

    with tempfile.TemporaryDirectory() as folder:
        result = train.DataParallelTrainer(
            train_loop,
            train_loop_config=chosen,
            backend_config=train.BackendConfig() if silent else None,
            scaling_config=train.ScalingConfig(num_workers=chosen["workers"]),
            run_config=train.RunConfig(name="training", storage_path=folder),
        ).fit()
    return result.metrics["samples_per_s"]


def pairs(chosen: dict[str, Any]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        throughput({**chosen, "marks": folder}, silent=True)
        took = np.stack([np.load(os.path.join(folder, f"{rank}.npy")) for rank in range(chosen["workers"])])
    return float(took[0].mean() / took.max(axis=0).mean())


CASES: dict[str, tuple[str, runtime.Case]] = {
    "throughput": ("samples/s", throughput),
    "silent": ("samples/s", lambda chosen: throughput(chosen, silent=True)),
    "pairs": ("of silent", pairs),
}


def main() -> int:
    if len(sys.argv) < 3 or sys.argv[1] != "trireme":
        sys.exit(__doc__)
    chosen = runtime.options(sys.argv[3:], {"workers": 2, "batch": 256, "width": 512, "steps": 25})
    ray = runtime.start(sys.argv[1])
    status = runtime.run_cases(sys.argv[2], CASES, chosen)
    ray.shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main())
