"""Where trials run, how many together, and in which processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from trireme import tune
from tune_searches import fit, line

pytestmark = pytest.mark.usefixtures("runtime")


def together(grid: Any) -> int:
    """How many of the trials ran at one time."""
    spans = [(result.metrics["start"], result.metrics["end"]) for result in grid]
    return max(sum(start <= at < end for start, end in spans) for at, _ in spans)


def test_resources_limit_what_runs_together(tmp_path: Path, ranks: int) -> None:
    import trireme

    cpus = trireme.cluster_resources()["CPU"] / ranks

    def overlap(config: dict[str, Any]) -> None:
        start = time.time()
        time.sleep(0.1)
        tune.report({"score": 1, "start": start, "end": time.time()})

    whole = tune.with_resources(overlap, {"cpu": cpus})
    assert together(fit(whole, tmp_path / "a", num_samples=2 * ranks + 1)) <= ranks
    grid = fit(tune.with_resources(overlap, {"cpu": 0}), tmp_path / "b", num_samples=4, max_concurrent_trials=1)
    assert together(grid) == 1


def test_what_can_never_be_placed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(tune.TuneError, match="unobtainium"):
        fit(tune.with_resources(line, {"cpu": 1, "unobtainium": 1}), tmp_path, {"slope": 1})


def test_a_gang_has_room_for_its_tasks(tmp_path: Path) -> None:
    import trireme

    def gang(config: dict[str, Any]) -> None:
        @trireme.remote(num_cpus=1)
        def part(n: int) -> int:
            return n

        tune.report({"score": sum(trireme.get([part.remote(n) for n in range(3)]))})

    factory = tune.PlacementGroupFactory([{"CPU": 0}, {"CPU": 1}])
    grid = fit(tune.with_resources(gang, factory), tmp_path, num_samples=2)
    assert [result.metrics["score"] for result in grid] == [3, 3]


def test_tasks_of_a_trial_use_the_bundles_that_it_does_not_hold(tmp_path: Path) -> None:
    import trireme

    def gang(config: dict[str, Any]) -> None:
        @trireme.remote
        def part(n: int) -> int:
            return n

        tune.report({"score": sum(trireme.get([part.remote(n) for n in range(3)], timeout=60))})

    factory = tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 1}])
    grid = fit(tune.with_resources(gang, factory), tmp_path, num_samples=2)
    assert [result.metrics["score"] for result in grid] == [3, 3]


def test_processes_are_reused(tmp_path: Path) -> None:
    grid = fit(line, tmp_path, {"slope": tune.uniform(0, 1)}, num_samples=6, reuse_actors=True, max_concurrent_trials=1)
    assert len({result.metrics["pid"] for result in grid}) == 1
    assert grid.num_errors == 0
    assert all(result.metrics["training_iteration"] == 5 for result in grid)
    assert len({result.path for result in grid}) == 6
