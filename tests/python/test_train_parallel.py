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

from conftest import eventually
from trireme import train

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
            slope.sum(axis=0, out=parallel.gradient("b2"))  # in place: nothing is copied
            parallel.ready("b2")
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


def run(function: Any, path: Path, workers: int = 2, **more: Any) -> train.Result:
    return train.DataParallelTrainer(
        function,
        scaling_config=train.ScalingConfig(num_workers=workers),
        run_config=train.RunConfig(storage_path=path, name="run"),
        **more,
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


def backward(rank: int, step: int) -> list[np.ndarray]:
    """Gradients of three layers, the last first."""
    rng = np.random.default_rng([rank, step])
    return [rng.random(size, dtype=np.float32) for size in (20_000, 500, 3)]


def test_a_gradient_is_averaged_while_the_backward_pass_goes_on(tmp_path: Path, runtime: Any) -> None:
    def loop() -> None:
        context = train.get_context()
        rank, size = context.get_world_rank(), context.get_world_size()
        parallel = train.DataParallel([np.zeros(n, np.float32) for n in (3, 500, 20_000)], bucket_bytes=1)
        averaged = []
        for step in range(3):
            last, middle, first = backward(rank, step)
            parallel.ready(2, last)
            eventually(lambda: parallel.is_averaged(2))  # on all workers, before any has the next gradient
            averaged.append(parallel.gradient(2).copy())
            parallel.ready(1, middle)
            parallel.ready(0, first)
            parallel.wait()
        expected = [sum(backward(r, step)[0] for r in range(size)) / np.float32(size) for step in range(3)]
        train.report({"same": all((a == e).all() for a, e in zip(averaged, expected))})

    assert run(loop, tmp_path).metrics["same"]


def test_torch_parameters_are_trained_in_place(tmp_path: Path, runtime: Any) -> None:
    """Without torch.distributed: what autograd adds up lies in the buckets."""
    pytest.importorskip("torch")

    def loop() -> None:
        import torch

        context = train.get_context()
        torch.manual_seed(context.get_world_rank())  # rank 0's parameters count
        model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
        parallel = train.DataParallel(dict(model.named_parameters()))
        for name, parameter in model.named_parameters():
            parameter.grad = parallel.gradient(name)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.2)
        losses = []
        for batch in train.get_dataset_shard("train").iter_torch_batches(batch_size=BATCH // context.get_world_size()):
            optimiser.zero_grad(set_to_none=False)
            loss = ((model(batch["x"]) - batch["y"]) ** 2).mean()
            loss.backward()
            for name in reversed(list(dict(model.named_parameters()))):
                parallel.ready(name)
            parallel.wait()
            optimiser.step()
            losses.append(loss.item())
        train.report({"weights": [p.detach().numpy() for p in model.parameters()], "losses": losses})

    results = [run(loop, tmp_path / str(n), workers=n, datasets={"train": data()}).metrics for n in (1, 2)]
    for alone, together in zip(results[0]["weights"], results[1]["weights"]):
        np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-6)


def test_bucket_size_changes_only_what_is_sent_when(two_workers: train.Result, tmp_path: Path) -> None:
    one_bucket = fit(tmp_path, 2, bucket_bytes=1 << 20)
    for name, value in weights(two_workers).items():
        np.testing.assert_array_equal(weights(one_bucket)[name], value)


class TestAlone:
    """Without a group: the bookkeeping."""

    def parameters(self) -> dict[str, np.ndarray]:
        return {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float32), "c": np.zeros(5)}

    def test_buckets_are_filled_by_type_and_size(self) -> None:
        assert train.DataParallel(self.parameters()).buckets == 2  # c; b and a
        assert train.DataParallel(self.parameters(), bucket_bytes=39).buckets == 3

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
        parallel.gradient("a")[...] = 7
        assert (found["a"] == 7).all()  # the same memory
        averaged = parallel.average({name: gradients[name] for name in found})
        np.testing.assert_array_equal(averaged["a"], gradients["a"])

    def test_says_what_is_missing_twice_or_unknown(self) -> None:
        parallel = train.DataParallel(self.parameters())
        parallel.ready("c", np.zeros(5))
        with pytest.raises(ValueError, match="no gradient was handed in for a, b"):
            parallel.gradients()
        with pytest.raises(ValueError, match="'c' was handed in twice"):
            parallel.ready("c", np.zeros(5))
        with pytest.raises(KeyError, match="there are: a, b, c"):
            parallel.ready("d", np.zeros(5))
        with pytest.raises(ValueError, match=r"'b' has the shape \(3,\), the parameter \(4,\)"):
            parallel.ready("b", np.zeros(3))

    def test_gradients_of_any_layout_and_number_type_are_taken_row_by_row(self) -> None:
        parallel = train.DataParallel([np.zeros((2, 3), np.float32)])
        parallel.ready(0, np.arange(6).reshape(3, 2).T)
        np.testing.assert_array_equal(parallel.gradients()[0], [[0, 2, 4], [1, 3, 5]])

    def test_empty_parameters_take_part(self) -> None:
        parallel = train.DataParallel({"none": np.zeros((0, 4)), "one": np.zeros(1)})
        parallel.ready("one", np.ones(1))
        parallel.ready("none", np.zeros((0, 4)))
        assert parallel.gradients()["none"].shape == (0, 4)

    def test_takes_floating_point_arrays_only(self) -> None:
        with pytest.raises(TypeError, match="'n' is int64"):
            train.DataParallel({"n": np.zeros(3, np.int64)})
        with pytest.raises(TypeError, match="'n' is list"):
            train.DataParallel({"n": [1.0]})
        with pytest.raises(ValueError, match="'n' is not contiguous"):
            train.DataParallel({"n": np.zeros((2, 3)).T})
        with pytest.raises(ValueError, match="at least one"):
            train.DataParallel({})
