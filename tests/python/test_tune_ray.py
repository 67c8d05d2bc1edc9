"""A program written for Ray Tune, unchanged."""

# ctest: one rank
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, os, sys, tempfile
import numpy as np
import ray
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import ASHAScheduler, AsyncHyperBandScheduler, PopulationBasedTraining
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter
from ray.tune.search.sample import Float
from ray.tune.stopper import MaximumIterationStopper
from ray.tune.logger import LoggerCallback
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.experiment import Trial
from ray.air.config import ScalingConfig


class Seen(LoggerCallback):
    results = 0

    def log_trial_result(self, iteration, trial: Trial, result):
        Seen.results += 1


def objective(config, data):
    assert data.shape == (100,)
    checkpoint = tune.get_checkpoint()
    assert checkpoint is None
    for step in range(1, 10):
        score = -(config["x"] - 3) ** 2 + 0.01 * step
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "model.json"), "w") as file:
                json.dump({"x": config["x"]}, file)
            tune.report({"score": score}, checkpoint=tune.Checkpoint.from_directory(folder))


ray.init()
tuner = Tuner(
    tune.with_resources(tune.with_parameters(objective, data=np.zeros(100)), {"cpu": 1}),
    param_space={"x": tune.grid_search([3, 2, 4, 1]), "lr": tune.loguniform(1e-4, 1e-1)},
    tune_config=TuneConfig(
        metric="score",
        mode="max",
        scheduler=ASHAScheduler(max_t=9, grace_period=3, reduction_factor=2),
        search_alg=BasicVariantGenerator(random_state=1),
        max_concurrent_trials=1,
    ),
    run_config=RunConfig(
        name="ray_program",
        storage_path=sys.argv[1],
        stop=MaximumIterationStopper(8),
        failure_config=FailureConfig(max_failures=1),
        checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="score"),
        callbacks=[Seen()],
        verbose=0,
    ),
)
results = tuner.fit()
best = results.get_best_result()
with best.checkpoint.as_directory() as folder:
    model = json.load(open(os.path.join(folder, "model.json")))
analysis = tune.run(lambda config: {"score": config["a"]}, config={"a": tune.grid_search([5, 7])}, metric="score",
                    mode="max", storage_path=sys.argv[1], verbose=0)
print(json.dumps({"best": best.config["x"], "model": model["x"], "trials": len(results), "errors": results.num_errors,
                  "iterations": [r.metrics["training_iteration"] for r in results], "seen": Seen.results,
                  "old": analysis.best_config["a"], "float": isinstance(tune.uniform(0, 1), Float)}))
"""


def test_a_ray_program_runs_unchanged(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, "-m", "trireme", "run", "--ray", str(script), str(tmp_path / "results")],
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ},
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout.strip().splitlines()[-1])
    assert said == {
        "best": 3,
        "model": 3,
        "trials": 4,
        "errors": 0,
        "iterations": [8, 3, 3, 3],
        "seen": 17,
        "old": 7,
        "float": True,
    }
    assert (tmp_path / "results" / "ray_program" / "tuner.pkl").exists()
