"""A trial that goes through what population based training found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trireme import tune
from trireme.tune import ResumeConfig, TuneError
from trireme.tune.schedulers import PopulationBasedTraining, PopulationBasedTrainingReplay, create_scheduler
from trireme.tune.search import sample
from tune_inline import Curve, search
from tune_searches import fit, load, resumable, save


class Adds(Curve):
    """Its score is the sum of its rates."""

    def setup(self, config: dict[str, Any]) -> None:
        self.at, self.total, self.rates = 0, 0.0, []

    def step(self) -> dict[str, Any]:
        self.at += 1
        self.total += self.config["rate"]
        self.rates = [*self.rates, self.config["rate"]]
        return {"score": self.total, "rates": self.rates, "at": self.at, "done": self.at >= 20}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"at": self.at, "total": self.total, "rates": self.rates}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.at, self.total, self.rates = checkpoint["at"], checkpoint["total"], checkpoint["rates"]


def population(synch: bool) -> PopulationBasedTraining:
    return PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=3,
        hyperparam_mutations={"rate": sample.uniform(0, 1)},
        synch=synch,
        seed=5,
    )


@pytest.mark.parametrize("synch", [True, False])
def test_every_trial_can_be_replayed(tmp_path: Path, synch: bool) -> None:
    space = {"rate": sample.grid_search([0.05, 0.1, 0.5, 0.9])}
    trials = search(tmp_path / "s", space, trainable=Adds, scheduler=population(synch), cpus=4)
    replayed = 0
    for trial in trials:
        policy = tmp_path / "s" / f"pbt_policy_{trial.trial_id}.txt"
        if not policy.exists():
            assert len(set(trial.last_result["rates"])) == 1  # it never changed
            continue
        again = PopulationBasedTrainingReplay(policy)
        (same,) = search(tmp_path / trial.trial_id, {"rate": -1.0}, trainable=Adds, scheduler=again)
        assert same.last_result["rates"] == trial.last_result["rates"]
        assert same.config["rate"] == trial.config["rate"]
        replayed += 1
    assert replayed >= 2


def policy_file(folder: Path, *changes: tuple[int, float, float]) -> Path:
    lines = [["a", "b", at, at, {"rate": old}, {"rate": new}] for at, old, new in changes]
    (folder / "policy.txt").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "policy.txt"


def test_it_goes_on_after_it_was_killed(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Kill(tune.Callback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            if result["at"] == 8:
                raise Killed

    policy = policy_file(tmp_path, (4, 1.0, 2.0), (12, 2.0, 3.0))
    options: dict[str, Any] = {"trainable": Adds, "checkpoint": tune.CheckpointConfig(checkpoint_frequency=1)}
    with pytest.raises(Killed):
        scheduler = PopulationBasedTrainingReplay(policy)
        search(tmp_path / "s", {"rate": 0.0}, scheduler=scheduler, callbacks=[Kill()], **options)
    scheduler = PopulationBasedTrainingReplay(policy)
    (trial,) = search(tmp_path / "s", {"rate": 0.0}, scheduler=scheduler, resume=ResumeConfig(), **options)
    assert trial.last_result["rates"] == [1.0] * 4 + [2.0] * 8 + [3.0] * 8


def test_a_function_changes_at_its_next_checkpoint(runtime: Any, tmp_path: Path) -> None:
    def every_third(config: dict[str, Any]) -> None:
        state = load({"rates": []})
        while len(state["rates"]) < 12:
            state["rates"].append(config["rate"])
            report = {"score": sum(state["rates"]), "rates": list(state["rates"])}
            if len(state["rates"]) % 3 == 0:
                save(state, report)
            else:
                tune.report(report)

    policy = policy_file(tmp_path, (3, 1.0, 2.0), (7, 2.0, 3.0))
    assert PopulationBasedTrainingReplay(policy).config == {"rate": 1.0}
    (result,) = fit(every_third, tmp_path, {"rate": 0.0}, scheduler=PopulationBasedTrainingReplay(policy))
    assert result.metrics["rates"] == [1.0] * 3 + [2.0] * 6 + [3.0] * 3


def test_what_a_population_of_functions_found_is_replayed(runtime: Any, tmp_path: Path) -> None:
    stop = {"stop": {"training_iteration": 12}}
    trial = tune.with_resources(resumable, {"cpu": 0.5})
    space = {"rate": tune.grid_search([0.05, 1.0])}
    found = fit(trial, tmp_path, space, scheduler=population(True), max_concurrent_trials=2, run=stop)
    worse = found[0]
    (policy,) = (tmp_path / "s").glob(f"pbt_policy_{worse.metrics['trial_id']}.txt")
    scheduler = PopulationBasedTrainingReplay(policy)
    (again,) = fit(trial, tmp_path, {}, scheduler=scheduler, run={**stop, "name": "again"})
    assert again.metrics["score"] == worse.metrics["score"]


@pytest.mark.parametrize("text", ["", "no json\n", '["a"]\n', '["a", "b", 1, 1, 2, 3]\n', "{}\n"])
def test_files_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.txt").write_text(text)
    with pytest.raises(TuneError, match="is no pbt_policy"):
        create_scheduler("pbt_replay", policy_file=tmp_path / "policy.txt")
    with pytest.raises(TuneError, match="there is no file"):
        PopulationBasedTrainingReplay(tmp_path / "nowhere")


def test_one_trial_only(tmp_path: Path) -> None:
    scheduler = PopulationBasedTrainingReplay(policy_file(tmp_path, (4, 1.0, 2.0)))
    with pytest.raises(TuneError, match="one trial"):
        search(tmp_path / "s", {"rate": 0.0}, trainable=Adds, scheduler=scheduler, num_samples=2)
