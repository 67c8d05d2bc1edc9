"""What can be a trial: classes, functions with large arguments, trainers; each on the runtime."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trireme import tune
from trireme.tune import Tuner
from tune_searches import fit

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture(scope="module", autouse=True)
def nothing_is_kept(runtime: Any) -> Iterator[None]:
    """Classes that with_parameters made hold references, and are only given up by a collection."""
    yield
    gc.collect()


class Counter(tune.Trainable):
    """Counts; its files say what was called."""

    def setup(self, config: dict[str, Any]) -> None:
        self.value = 0

    def step(self) -> dict[str, Any]:
        self.value += self.config["by"]
        return {"score": self.value, "done": self.value >= self.config.get("until", 10)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "value").write_text(str(self.value))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.value = int(Path(checkpoint, "value").read_text())

    def cleanup(self) -> None:
        Path(self.logdir, "cleaned").write_text(self.trial_id)


def test_class_trainables(tmp_path: Path) -> None:
    config = tune.CheckpointConfig(checkpoint_frequency=2, checkpoint_at_end=True, num_to_keep=2)
    grid = fit(Counter, tmp_path, {"by": tune.grid_search([1, 2])}, run={"checkpoint_config": config})
    assert [result.metrics["training_iteration"] for result in grid] == [10, 5]
    for result in grid:
        assert Path(result.checkpoint.path, "value").read_text() == "10"
        assert Path(result.path, "cleaned").read_text() == result.metrics["trial_id"]
        # Every second step; the last, of an even number, is not saved again.
        iterations = {"1": ["000003", "000004"], "2": ["000001", "000002"]}[str(result.config["by"])]
        assert sorted(path.name[-6:] for path in Path(result.path).glob("checkpoint_*")) == iterations


def test_a_trainable_works_alone(tmp_path: Path) -> None:
    counter = Counter({"by": 3})
    assert counter.train()["score"] == 3
    assert counter.train()["training_iteration"] == 2
    checkpoint = counter.save(str(tmp_path / "c"))
    other = Counter({"by": 1})
    other.restore(checkpoint)
    result = other.train()
    assert (result["score"], result["training_iteration"]) == (7, 3)


def test_large_arguments_come_through_the_object_store(tmp_path: Path) -> None:
    data = np.arange(100_000.0)

    def summed(config: dict[str, Any], data: Any) -> dict[str, Any]:
        return {"score": float(data.sum()), "writeable": bool(data.flags.writeable)}

    grid = fit(tune.with_parameters(summed, data=data), tmp_path, num_samples=2)
    assert [result.metrics["score"] for result in grid] == [data.sum()] * 2
    assert not grid[0].metrics["writeable"]
    with pytest.raises(TypeError, match="takes no argument wrong"):
        tune.with_parameters(summed, wrong=1)

    class Sums(tune.Trainable):
        def setup(self, config: dict[str, Any], data: Any = None) -> None:
            self.data = data

        def step(self) -> dict[str, Any]:
            return {"score": float(self.data.sum()), "done": True}

    (result,) = fit(tune.with_parameters(Sums, data=data), tmp_path / "c")
    assert result.metrics["score"] == data.sum()


def test_a_trainer_is_a_trainable(tmp_path: Path) -> None:
    from trireme import train

    def loop(config: dict[str, Any]) -> None:
        context = train.get_context()
        for step in range(1, 4):
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, f"rank{context.get_world_rank()}").write_text(str(step))
                train.report(
                    {"score": config["lr"] * step, "size": context.get_world_size()},
                    checkpoint=train.Checkpoint.from_directory(folder),
                )

    trainer = train.DataParallelTrainer(
        loop,
        train_loop_config={"lr": 0.0},
        backend_config=train.BackendConfig(),
        scaling_config=train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
    )
    grid = fit(trainer, tmp_path, {"train_loop_config": {"lr": tune.grid_search([1.0, 2.0])}})
    assert grid.num_errors == 0, grid.errors
    best = grid.get_best_result()
    assert best.metrics["score"] == 6
    assert best.metrics["size"] == 2
    assert best.metrics["training_iteration"] == 3
    assert sorted(path.name for path in Path(best.checkpoint.path).iterdir()) == ["rank0", "rank1"]


def test_trainables_that_are_none_say_so(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="takes one argument"):
        fit(lambda: None, tmp_path)
    with pytest.raises(TypeError, match="no trireme.tune.Trainable"):
        fit(int, tmp_path)
    with pytest.raises(ValueError, match="no trainable 'nothing'"):
        fit("nothing", tmp_path)
    with pytest.raises(TypeError, match="needs a trainable"):
        Tuner()


def test_a_function_trainable_can_be_called_without_a_search() -> None:
    def train(config: dict[str, Any]) -> None:
        assert tune.get_checkpoint() is None
        tune.report({"score": config["x"]})

    with pytest.warns(UserWarning, match="runs no trial of a Tuner"):
        train({"x": 1})
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="works only in a trainable"):
        tune.report({})
        tune.get_context()


def test_the_only_trial_is_the_best(tmp_path: Path) -> None:
    grid = Tuner(lambda config: {"score": 1}, run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0)).fit()
    assert grid.get_best_result().metrics["score"] == 1
