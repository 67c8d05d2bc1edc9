"""Stoppers stop when they say."""

# ctest: one rank
from __future__ import annotations

import datetime
import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from trireme.tune.error import TuneError
from trireme.tune.search import sample
from trireme.tune.stopper import (
    CombinedStopper,
    ExperimentPlateauStopper,
    FunctionStopper,
    MaximumIterationStopper,
    TimeoutStopper,
    TrialPlateauStopper,
)
from trireme.tune.stopper.stopper import deadline_of, make_stopper
from tune_inline import search


def stops(stopper: Any, scores: list[float], trial: str = "a") -> list[bool]:
    return [stopper(trial, {"score": score, "training_iteration": n + 1}) for n, score in enumerate(scores)]


def test_dict() -> None:
    stopper = make_stopper({"score": 3, "deep": {"x": 10}})
    assert not stopper("a", {"score": 2, "deep": {"x": 1}})
    assert stopper("a", {"score": 3, "deep": {"x": 1}})
    assert stopper("a", {"score": 2, "deep": {"x": 11}})
    with pytest.raises(TuneError, match="by 'score'.*deep"):
        stopper("a", {"deep": {"x": 1}})


def test_function() -> None:
    stopper = make_stopper(lambda trial_id, result: trial_id == "b" and result["score"] > 1)
    assert stops(stopper, [5, 5]) == [False, False]
    assert stops(stopper, [1, 2], "b") == [False, True]
    with pytest.raises(TypeError, match="stop is 5"):
        make_stopper(5)
    with pytest.raises(TypeError):
        FunctionStopper(3)


def test_maximum_iteration_counts_each_trial() -> None:
    stopper = MaximumIterationStopper(2)
    assert stops(stopper, [0, 0]) == [False, True]
    assert stops(stopper, [0, 0], "b") == [False, True]


def test_trial_plateau() -> None:
    stopper = TrialPlateauStopper("score", std=0.01, num_results=3, grace_period=4)
    assert stops(stopper, [1, 1, 1, 1, 5, 5, 5]) == [False, False, False, True, False, False, True]
    below = TrialPlateauStopper("score", num_results=2, grace_period=2, metric_threshold=3, mode="min")
    assert stops(below, [5, 5, 2, 2]) == [False, False, False, True]


def test_experiment_plateau() -> None:
    stopper = ExperimentPlateauStopper("score", std=0.01, top=3, mode="max", patience=1)
    assert stops(stopper, [1, 2, 3]) == [False] * 3
    assert stops(stopper, [3, 3], "b") == [False, False]
    assert not stopper.stop_all()
    assert stops(stopper, [0], "c") == [True]
    assert stopper.stop_all()


def test_timeout_counts_on_after_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stopper = TimeoutStopper(datetime.timedelta(seconds=10))
    assert deadline_of(CombinedStopper(MaximumIterationStopper(1), stopper)) is stopper
    clock[0] += 4
    assert stopper.remaining() == 6
    assert not stopper.stop_all()
    again = pickle.loads(pickle.dumps(stopper))
    clock[0] += 1000
    assert stopper.stop_all()
    again.start()
    assert again.remaining() == 6


def test_combined_shows_each_report_to_each() -> None:
    stopper = CombinedStopper(MaximumIterationStopper(1), MaximumIterationStopper(3))
    assert stops(stopper, [0, 0, 0]) == [True, True, True]
    assert stopper.stoppers[1]._seen["a"] == 3


def test_in_a_search(tmp_path: Path) -> None:
    space = {"slope": sample.grid_search([1.0, 2.0])}
    trials = search(tmp_path / "s", space, stop={"score": 6})
    assert [trial.last_result["training_iteration"] for trial in trials] == [6, 3]
    assert all(trial.last_result["done"] for trial in trials)


def test_stopping_all_ends_the_others_too(tmp_path: Path) -> None:
    class All(MaximumIterationStopper):
        def stop_all(self) -> bool:
            return sum(self._seen.values()) >= 5

    space = {"slope": sample.uniform(0, 1), "steps": 1000}
    trials = search(tmp_path / "s", space, stop=All(1000), cpus=2, num_samples=-1)
    assert len(trials) == 2
    assert all(trial.status == "TERMINATED" for trial in trials)


def test_a_value_that_is_not_reported_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(TuneError, match="'epochs'.*at.*score"):
        search(tmp_path / "s", {"slope": 1}, stop={"epochs": 3})
