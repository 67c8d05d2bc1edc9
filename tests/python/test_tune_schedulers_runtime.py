"""Schedulers that stop, pause and change trials, on the runtime."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from trireme import tune
from trireme.tune.schedulers import PB2, ASHAScheduler, HyperBandScheduler, PopulationBasedTraining
from tune_searches import fit, line, load, resumable, save

pytestmark = pytest.mark.usefixtures("runtime")


def test_asha_stops_the_bad(tmp_path: Path) -> None:
    scheduler = ASHAScheduler(grace_period=2, reduction_factor=2, max_t=16)
    space = {"slope": tune.grid_search([4.0, 3.0, 2.0, 1.0, 5.0]), "steps": 100}
    grid = fit(line, tmp_path, space, scheduler=scheduler, max_concurrent_trials=1)
    assert [result.metrics["training_iteration"] for result in grid] == [16, 2, 2, 2, 16]


def test_hyperband_pauses_functions_that_save(tmp_path: Path) -> None:
    space = {"rate": tune.grid_search([1.0, 2.0, 3.0])}
    grid = fit(resumable, tmp_path, space, scheduler=HyperBandScheduler(max_t=3, reduction_factor=3))
    assert [result.metrics["step"] for result in grid] == [1, 1, 3]


def pbt() -> PopulationBasedTraining:
    return PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=3,
        hyperparam_mutations={"rate": tune.uniform(0, 1)},
        synch=True,  # else the first may have ended before the second begins
        seed=2,
    )


@pytest.mark.parametrize("reuse", [False, True])
def test_pbt_with_functions(tmp_path: Path, reuse: bool) -> None:
    scheduler = pbt()
    grid = fit(
        resumable,
        tmp_path,
        {"rate": tune.grid_search([0.05, 1.0])},
        scheduler=scheduler,
        reuse_actors=reuse,
        max_concurrent_trials=2,
        run={"stop": {"training_iteration": 15}, "checkpoint_config": tune.CheckpointConfig(num_to_keep=1)},
    )
    assert scheduler._num_exploits >= 1
    assert grid.num_errors == 0
    assert grid[0].metrics["score"] > 3  # 15 steps of 0.05 are 0.75


def test_pb2_with_functions(tmp_path: Path) -> None:
    scheduler = PB2(
        time_attr="training_iteration", perturbation_interval=2, hyperparam_bounds={"rate": [0, 1]}, synch=True, seed=2
    )
    grid = fit(
        tune.with_resources(resumable, {"cpu": 0.3}),  # all three must have room for synch
        tmp_path,
        {"rate": tune.grid_search([0.05, 0.1, 0.2])},
        scheduler=scheduler,
        max_concurrent_trials=3,
        run={"stop": {"training_iteration": 20}},
    )
    assert scheduler._num_exploits >= 3
    assert grid.num_errors == 0
    # More is better, so it goes to where none began: 20 steps of 0.2 are 4.
    assert max(result.metrics["score"] for result in grid) > 8


def test_pbt_exploits_what_no_file_holds_any_more(tmp_path: Path) -> None:
    """Between processes: what a trial saved is gone from every folder before another goes on from it."""

    def burning(config: dict[str, Any]) -> None:
        state = load({"total": 0.0, "step": 0, "came_from": []})
        start = tune.get_checkpoint()
        if start is not None:
            state["came_from"].append(start.path)
        while True:
            state["step"] += 1
            state["total"] += config["rate"]
            save(state, {"score": state["total"], "step": state["step"], "came_from": list(state["came_from"])})
            for folder in Path(tune.get_context().get_trial_dir()).glob("checkpoint_*"):
                shutil.rmtree(folder)

    scheduler = pbt()
    grid = fit(
        burning,
        tmp_path,
        {"rate": tune.grid_search([0.05, 1.0])},
        scheduler=scheduler,
        max_concurrent_trials=2,
        run={"stop": {"training_iteration": 12}},
    )
    assert scheduler._num_exploits >= 1 and grid.num_errors == 0
    lifted = grid[0].metrics
    assert lifted["score"] > 2.5  # 12 steps of 0.05 are 0.6
    assert lifted["came_from"] and not any(path.startswith(str(tmp_path)) for path in lifted["came_from"])


def test_one_seed_gives_one_search(tmp_path: Path) -> None:
    from trireme.tune.search import BasicVariantGenerator

    def run(path: Path) -> list[Any]:
        grid = fit(
            line,
            path,
            {"slope": tune.loguniform(0.1, 10), "steps": 9},
            search_alg=BasicVariantGenerator(random_state=8),
            scheduler=ASHAScheduler(grace_period=1, reduction_factor=3, max_t=9, brackets=2, seed=8),
            num_samples=8,
            max_concurrent_trials=1,
        )
        return [(result.config["slope"], result.metrics["training_iteration"]) for result in grid]

    assert run(tmp_path / "a") == run(tmp_path / "b")
