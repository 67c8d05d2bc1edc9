"""Population based bandits: what the process learns, what is chosen, and that it finds a moving optimum."""

# ctest: one rank
from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trireme.tune import TuneError
from trireme.tune.schedulers import PB2, PopulationBasedTraining, create_scheduler
from trireme.tune.schedulers.gaussian_process import GaussianProcess, Kernel, best_point
from trireme.tune.search import BasicVariantGenerator, sample
from tune_inline import Curve, search

STEPS = 30


class Moving(Curve):
    """Its score rises the more, the nearer `x` is to what is best at that time."""

    def setup(self, config: dict[str, Any]) -> None:
        self.at, self.total = 0, 0.0

    def step(self) -> dict[str, Any]:
        best = 0.2 + 0.6 * self.at / STEPS
        self.at += 1
        self.total += 1 - abs(self.config["x"] - best)
        return {"score": self.total, "at": self.at, "done": self.at >= STEPS}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"at": self.at, "total": self.total}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.at, self.total = checkpoint["at"], checkpoint["total"]


def run(path: Path, scheduler: Any, seed: int, mode: str = "max", **options: Any) -> list[Any]:
    searcher = BasicVariantGenerator(random_state=seed)
    options.setdefault("trainable", Moving)
    space = {"x": sample.uniform(0, 1)}
    return search(path, space, scheduler=scheduler, searcher=searcher, num_samples=4, cpus=4, mode=mode, **options)


def pb2(seed: int, **options: Any) -> PB2:
    options.setdefault("hyperparam_bounds", {"x": [0, 1]})
    options.setdefault("synch", True)
    return PB2(time_attr="training_iteration", perturbation_interval=2, seed=seed, **options)


def lost(trials: list[Any]) -> float:
    """How far the best trial is behind the best there can be."""
    return STEPS - max(trial.last_result["score"] for trial in trials)


def test_it_follows_a_moving_optimum_where_random_changes_do_not(tmp_path: Path) -> None:
    behind: dict[str, list[float]] = {"bandit": [], "random": []}
    for seed in range(5):
        scheduler = pb2(seed)
        behind["bandit"].append(lost(run(tmp_path / f"bandit {seed}", scheduler, seed)))
        assert scheduler._num_exploits >= 10
        random = PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=2,
            hyperparam_mutations={"x": sample.uniform(0, 1)},
            resample_probability=1.0,
            synch=True,
            seed=seed,
        )
        behind["random"].append(lost(run(tmp_path / f"random {seed}", random, seed)))
    assert np.mean(behind["bandit"]) < 0.8 * np.mean(behind["random"]), behind
    assert max(behind["bandit"]) < max(behind["random"]), behind


def test_a_loss_falls(tmp_path: Path) -> None:
    class Falling(Moving):
        def step(self) -> dict[str, Any]:
            result = super().step()
            return {**result, "score": -result["score"]}

    trials = run(tmp_path / "falling", pb2(1), 1, mode="min", trainable=Falling)
    mirrored = run(tmp_path / "rising", pb2(1), 1)
    assert [t.last_result["score"] for t in trials] == [-t.last_result["score"] for t in mirrored]


@pytest.mark.parametrize("synch", [True, False])
def test_one_seed_gives_one_search(tmp_path: Path, synch: bool) -> None:
    first, second = (
        [trial.last_result["score"] for trial in run(tmp_path / str(i), pb2(7, synch=synch), 7)] for i in range(2)
    )
    assert first == second


def test_bounds_whole_numbers_and_nested_values(tmp_path: Path) -> None:
    class Nested(Moving):
        def step(self) -> dict[str, Any]:
            assert type(self.config["layers"]) is int
            assert 2 <= self.config["layers"] <= 6
            assert 10 <= self.config["optimizer"]["lr"] <= 20
            assert self.config["optimizer"]["name"] == "sgd"
            result = super().step()
            return {**result, "score": result["score"] * self.config["layers"] + self.config["optimizer"]["lr"]}

    seen: list[dict[str, Any]] = []

    def note(config: dict[str, Any]) -> dict[str, Any]:
        seen.append(config)
        return {**config, "noted": True}

    scheduler = pb2(2, hyperparam_bounds={"layers": [2, 6], "optimizer": {"lr": [10, 20]}}, custom_explore_fn=note)
    space = {
        "x": 0.5,
        "layers": sample.randint(2, 7),
        "optimizer": {"name": "sgd", "lr": sample.uniform(10, 20)},
    }
    trials = search(tmp_path / "s", space, scheduler=scheduler, trainable=Nested, num_samples=4, cpus=4)
    assert scheduler._num_exploits >= 5
    assert len(seen) == scheduler._num_exploits
    assert any(trial.config.get("noted") for trial in trials)
    # More layers are better, so they are what is chosen in the end.
    assert max(trial.config["layers"] for trial in trials) == 6
    text = (tmp_path / "s" / "pbt_global.txt").read_text()
    assert "bandit" in text
    assert "optimizer/lr" in text


def test_what_the_space_leaves_out_is_drawn_within_the_bounds(tmp_path: Path) -> None:
    searcher = BasicVariantGenerator(random_state=1)
    scheduler = pb2(1, hyperparam_bounds={"x": [0.25, 0.75]})
    trials = search(tmp_path / "s", {}, scheduler=scheduler, searcher=searcher, trainable=Moving, num_samples=4, cpus=4)
    assert all(0.25 <= trial.config["x"] <= 0.75 for trial in trials)
    assert len({trial.config["x"] for trial in trials}) > 1


def test_what_is_missing_within_a_value_is_named(tmp_path: Path) -> None:
    scheduler = pb2(1, hyperparam_bounds={"x": [0, 1], "optimizer": {"lr": [0, 1]}})
    with pytest.raises(TuneError, match="'optimizer/lr'"):
        search(tmp_path / "s", {"optimizer": {}}, scheduler=scheduler, trainable=Moving, num_samples=4, cpus=4)


def test_its_state_is_all_it_knows(tmp_path: Path) -> None:
    first = pb2(3)
    run(tmp_path / "s", first, 3)
    again = pb2(4)
    again.set_state(pickle.loads(pickle.dumps(first.get_state())))
    where = 20.0, 15.0, [(20.0, 14.0, [0.5])]
    assert np.array_equal(first._choose(*where), again._choose(*where))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "hyperparam_bounds"),
        ({"hyperparam_bounds": {"x": [1, 0]}}, r"'x'.*\[min, max\]"),
        ({"hyperparam_bounds": {"a": {"x": [1, 2, 3]}}}, "'a/x'"),
        ({"hyperparam_bounds": {"x": sample.uniform(0, 1)}}, "'x'"),
        ({"hyperparam_bounds": {"x": [0, 1]}, "quantile_fraction": 0.7}, "quantile_fraction"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TuneError, match=message):
        PB2(**options)


def test_by_name() -> None:
    assert isinstance(create_scheduler("pb2", hyperparam_bounds={"x": [0, 1]}), PB2)


def test_a_process_learns_a_function() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((40, 1))
    values = np.sin(6 * points[:, 0])
    process = GaussianProcess.fit(np.zeros(40), points, values)
    asked = np.linspace(0.05, 0.95, 19)[:, None]
    assert np.abs(process.mean(np.zeros(19), asked) - np.sin(6 * asked[:, 0])).max() < 0.1
    assert process.deviation(np.zeros(1), points[:1])[0] < 0.2
    assert process.deviation(np.zeros(1), np.array([[9.0]]))[0] == pytest.approx(1, abs=1e-6)
    # What is known of another point there, whatever it is, makes it less uncertain; what is known of long ago, little.
    far = np.array([[9.0]])
    assert process.with_points(np.zeros(1), far).deviation(np.zeros(1), far)[0] < 0.5
    slow = GaussianProcess(np.zeros(40), points, values, Kernel(0.4, 0.3), 1e-3)
    assert slow.deviation(np.full(1, 20.0), points[:1])[0] > 0.9


def test_what_was_seen_long_ago_counts_less() -> None:
    # The same points twice: long ago one was best, now the other is.
    points = np.array([[0.2], [0.8]] * 2)
    times, values = np.array([0.0, 0.0, 10.0, 10.0]), np.array([1.0, -1.0, -1.0, 1.0])
    process = GaussianProcess(times, points, values, Kernel(0.2, 0.3), 1e-2)
    now = process.mean(np.full(2, 11.0), points[:2])
    assert now[1] > 0.5 > -0.5 > now[0]


def test_a_point_that_somebody_tries_already_is_not_chosen_again() -> None:
    rng = np.random.default_rng(0)
    points = np.array([[0.0, 0.1], [0.0, 0.9]])
    process = GaussianProcess(np.zeros(2), points, np.zeros(2), Kernel(0.2, 0.001), 1e-2)
    nobody = np.zeros(0), np.zeros((0, 2))
    (first,) = best_point(process, nobody, 0.0, np.zeros(1), 1, rng)
    assert 0.3 < first < 0.7
    (second,) = best_point(process, (np.zeros(1), np.array([[0.0, first]])), 0.0, np.zeros(1), 1, rng)
    assert abs(second - first) > 0.15
