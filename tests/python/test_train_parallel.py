"""Training with NumPy: gradients averaged by DataParallel over a collective group."""

# ctest: timeout 300
from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trireme import train
from trireme.train._parallel import _fill

ROWS, BATCH = 96, 24


def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, 6), dtype=np.float32)
    return {"x": x, "y": np.sin(x @ rng.random((6, 2), dtype=np.float32) * 3)}


def regression(config: dict[str, Any]) -> None:
    """A network with one hidden layer, with plain gradient descent; may die once, on the last rank."""
    context = train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    # Each worker starts from other numbers: they count only on rank 0.
    rng = np.random.default_rng(rank)
    parameters = {
        "w1": rng.normal(0, 0.4, (6, 16)).astype(np.float32),
        "b1": np.zeros(16, np.float32),
        "w2": rng.normal(0, 0.25, (16, 2)).astype(np.float32),
        "b2": np.zeros(2, np.float32),
    }
    epoch, checkpoint = 0, train.get_checkpoint()
    if checkpoint is not None:
        with np.load(Path(checkpoint.path, "state.npz")) as state:
            epoch = int(state["epoch"])
            for name, value in parameters.items():
                value[...] = state[name]
    parallel = train.DataParallel(parameters, bucket_bytes=config["bucket_bytes"])
    shard = train.get_dataset_shard("train")
    while epoch < config["epochs"]:
        epoch += 1
        losses = []
        for step, batch in enumerate(shard.iter_batches(batch_size=BATCH // size)):
            if (epoch, step) == config.get("dies_at") and rank == size - 1 and not os.path.exists(config["marker"]):
                Path(config["marker"]).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            hidden = np.tanh(batch["x"] @ parameters["w1"] + parameters["b1"])
            wrong = hidden @ parameters["w2"] + parameters["b2"] - batch["y"]
            losses.append(float((wrong**2).mean()))
            slope = 2 * wrong / wrong.size
            parallel.ready("b2", slope.sum(axis=0))
            parallel.ready("w2", hidden.T @ slope)
            back = slope @ parameters["w2"].T * (1 - hidden**2)
            parallel.ready("b1", back.sum(axis=0))
            parallel.ready("w1", batch["x"].T @ back)
            for name, gradient in parallel.gradients().items():
                parameters[name] -= np.float32(0.1) * gradient
        with tempfile.TemporaryDirectory() as folder:
            np.savez(Path(folder, f"state{rank or ''}.npz"), epoch=epoch, **parameters)
            train.report({"epoch": epoch, "loss": np.mean(losses)}, checkpoint=train.Checkpoint(folder))


def fit(path: Path, workers: int, max_failures: int = 0, **config: Any) -> train.Result:
    return train.DataParallelTrainer(
        regression,
        train_loop_config={"epochs": 3, "bucket_bytes": 100, **config},
        scaling_config=train.ScalingConfig(num_workers=workers),
        run_config=train.RunConfig(
            storage_path=path, name="run", failure_config=train.FailureConfig(max_failures=max_failures)
        ),
        datasets={"train": data()},
    ).fit()


def weights(result: train.Result, rank: int = 0) -> dict[str, np.ndarray]:
    with np.load(Path(result.checkpoint.path, f"state{rank or ''}.npz")) as state:
        return {name: state[name] for name in ("w1", "b1", "w2", "b2")}


@pytest.fixture(scope="module")
def two_workers(runtime: Any, tmp_path_factory: pytest.TempPathFactory) -> train.Result:
    """An undisturbed run, to compare others with."""
    return fit(tmp_path_factory.mktemp("two"), 2)


def test_workers_compute_what_one_process_does(two_workers: train.Result, tmp_path: Path) -> None:
    alone = fit(tmp_path, 1)
    for name, value in weights(alone).items():
        np.testing.assert_allclose(weights(two_workers)[name], value, rtol=1e-4, atol=1e-6)
    assert alone.metrics_history[-1]["loss"] < alone.metrics_history[0]["loss"]


def test_all_workers_hold_the_same_bits(two_workers: train.Result) -> None:
    for name, value in weights(two_workers, rank=1).items():
        np.testing.assert_array_equal(weights(two_workers)[name], value)


def test_the_same_seed_and_workers_give_the_same_bits(tmp_path: Path, runtime: Any) -> None:
    workers = min(3, int(runtime.cluster_resources()["CPU"]))
    first, second = fit(tmp_path / "a", workers), fit(tmp_path / "b", workers)
    assert first.metrics_history == second.metrics_history
    for name, value in weights(first).items():
        np.testing.assert_array_equal(weights(second)[name], value)


def test_a_worker_killed_between_all_reduces_changes_no_bit(two_workers: train.Result, tmp_path: Path) -> None:
    marker = tmp_path / "died"
    result = fit(tmp_path, 2, max_failures=1, dies_at=(2, 1), marker=str(marker))
    assert marker.exists()
    assert result.metrics_history == two_workers.metrics_history
    for name, value in weights(two_workers).items():
        np.testing.assert_array_equal(weights(result)[name], value)


def test_bucket_size_changes_only_what_is_sent_when(two_workers: train.Result, tmp_path: Path) -> None:
    one_bucket = fit(tmp_path, 2, bucket_bytes=1 << 20)
    for name, value in weights(two_workers).items():
        np.testing.assert_array_equal(weights(one_bucket)[name], value)


class TestAlone:
    """Without a group: the bookkeeping."""

    def parameters(self) -> dict[str, np.ndarray]:
        return {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float32), "c": np.zeros(5)}

    def test_buckets_are_filled_from_the_last_parameter_by_type_and_size(self) -> None:
        assert [list(bucket.views) for bucket in _fill(self.parameters(), 1 << 20)] == [["c"], ["b", "a"]]
        assert [list(bucket.views) for bucket in _fill(self.parameters(), 39)] == [["c"], ["b"], ["a"]]

    def test_gradients_come_back_in_the_order_of_the_parameters(self) -> None:
        parallel = train.DataParallel(self.parameters())
        gradients = {"c": np.arange(5.0), "a": np.ones((2, 3)), "b": np.full(4, 2.0)}
        for _ in range(2):
            for name, gradient in gradients.items():
                parallel.ready(name, gradient)
            found = parallel.gradients()
            assert list(found) == ["a", "b", "c"]
            for name, gradient in gradients.items():
                np.testing.assert_array_equal(found[name], gradient)
        averaged = parallel.average({name: gradients[name] for name in found})
        np.testing.assert_array_equal(averaged["a"], gradients["a"])

    def test_says_what_is_missing_twice_or_unknown(self) -> None:
        parallel = train.DataParallel(self.parameters())
        parallel.ready("c", np.zeros(5))
        with pytest.raises(ValueError, match="no gradient was handed in for a, b"):
            parallel.gradients()
        with pytest.raises(ValueError, match="'c' was handed in twice"):
            parallel.ready("c", np.zeros(5))
        with pytest.raises(KeyError, match="there are: c, b, a"):
            parallel.ready("d", np.zeros(5))
        with pytest.raises(ValueError, match="broadcast"):
            parallel.ready("b", np.zeros(3))

    def test_takes_floating_point_arrays_only(self) -> None:
        with pytest.raises(TypeError, match="'n' is int64"):
            train.DataParallel({"n": np.zeros(3, np.int64)})
        with pytest.raises(TypeError, match="'n' is list"):
            train.DataParallel({"n": [1.0]})
        with pytest.raises(ValueError, match="at least one"):
            train.DataParallel({})
