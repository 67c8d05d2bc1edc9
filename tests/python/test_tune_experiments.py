"""tune.run of experiments, tune.run_experiments, and searches that run together."""

# ctest: timeout 240
from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from trireme import tune
from trireme.tune import Callback, Experiment, ResumeConfig, TuneError
from trireme.tune.execution.room import Room, run_together
from trireme.tune.schedulers import ASHAScheduler


def line(config: dict[str, Any]) -> None:
    for step in range(1, 4):
        tune.report({"score": config["slope"] * step})


class Steps(tune.Trainable):
    """Counts; fails at `fail_at` unless a file says that it is mended."""

    def setup(self, config: dict[str, Any]) -> None:
        self.at = 0

    def step(self) -> dict[str, Any]:
        self.at += 1
        if self.at == self.config.get("fail_at") and not Path(self.config["mended"]).exists():
            raise ValueError(f"fails at {self.at}")
        return {"score": float(self.at), "began": self.began, "done": self.at >= 4}

    began = 0

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"at": self.at}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.at = self.began = checkpoint["at"]


def test_several_experiments_at_the_same_time(runtime: Any, tmp_path: Path) -> None:
    def meets(config: dict[str, Any]) -> None:
        # Each waits until the other's trial runs.
        Path(config["here"]).touch()
        deadline = time.monotonic() + 60
        while not Path(config["there"]).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        tune.report({"score": 1})

    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    shared: dict[str, Any] = {"storage_path": str(tmp_path), "resources_per_trial": {"cpu": 0.5}}
    trials = tune.run_experiments(
        {
            "a": {"run": meets, "config": {"here": one, "there": other}, **shared},
            "b": Experiment("b", meets, config={"here": other, "there": one}, **shared),
        },
        verbose=0,
    )
    assert [(trial.status, os.path.basename(trial.experiment_path)) for trial in trials] == [
        ("TERMINATED", "a"),
        ("TERMINATED", "b"),
    ]
    assert {trial.trainable_name for trial in trials} == {"meets"}
    for name in "ab":
        assert len(tune.ExperimentAnalysis(tmp_path / name).trials) == 1


def test_one_after_the_other(runtime: Any, tmp_path: Path) -> None:
    class Seen(Callback):
        def __init__(self) -> None:
            self.order: list[str] = []

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self.order.append(os.path.basename(trial.experiment_path))

    seen = Seen()
    space = {"slope": tune.grid_search([1, 2])}
    both = [Experiment(name, line, config=space, storage_path=str(tmp_path)) for name in ("first", "second")]
    trials = tune.run_experiments(both, concurrent=False, verbose=0, callbacks=[seen])
    assert seen.order == ["first"] * 2 + ["second"] * 2
    assert [trial.last_result["score"] for trial in trials] == [3, 6, 3, 6]


def test_experiments_have_their_own_trainables_stoppers_and_schedulers(runtime: Any, tmp_path: Path) -> None:
    experiments = [
        Experiment("line", line, config={"slope": tune.grid_search([3, 2, 1])}, stop={"score": 4}, storage_path=str(tmp_path)),
        Experiment("steps", Steps, num_samples=2, storage_path=str(tmp_path), checkpoint_config={"checkpoint_at_end": True}),
    ]
    analysis = tune.run(
        experiments,
        metric="score",
        mode="max",
        scheduler=ASHAScheduler(grace_period=1, max_t=100, reduction_factor=2),
        verbose=0,
        max_concurrent_trials=1,
    )
    assert [os.path.basename(trial.experiment_path) for trial in analysis.trials] == ["line"] * 3 + ["steps"] * 2
    scores = [trial.last_result["score"] for trial in analysis.trials]
    assert scores[0] == 6  # the first of each is never behind
    assert all(score < 6 for score in scores[1:3])  # stopped behind it, or at 4
    assert scores[3] == 4
    assert all(trial.checkpoint is not None for trial in analysis.trials[3:])
    assert analysis.best_config == {"slope": 3}


def test_a_single_experiment_is_a_search(runtime: Any, tmp_path: Path) -> None:
    experiment = Experiment("alone", line, config={"slope": 2}, num_samples=2, storage_path=str(tmp_path))
    assert (experiment.path, experiment.run_identifier) == (str(tmp_path / "alone"), "line")
    assert experiment.public_spec == {"stop": None, "num_samples": 2, "time_budget_s": None}
    analysis = tune.run(experiment, verbose=0)
    assert [trial.last_result["score"] for trial in analysis.trials] == [6, 6]
    with pytest.raises(ValueError, match="folders of their own"):
        tune.run([experiment, experiment], verbose=0)


@pytest.mark.parametrize(
    ("resume", "began"),
    [
        ("AUTO+ERRORED", 2),
        ("AUTO+RESTART_ERRORED", 0),
        ("ERRORED_ONLY", 2),
        (ResumeConfig(errored="restart"), 0),
        (ResumeConfig(finished="restart", errored="resume"), 2),
    ],
)
def test_failed_trials_of_a_run_go_on(runtime: Any, tmp_path: Path, resume: Any, began: int) -> None:
    options: dict[str, Any] = {
        "name": "s",
        "config": {"fail_at": 3, "mended": str(tmp_path / "mended")},
        "storage_path": str(tmp_path),
        "checkpoint_config": tune.CheckpointConfig(checkpoint_frequency=1),
        "verbose": 0,
    }
    with pytest.raises(TuneError, match="fails at 3"):
        tune.run(Steps, **options)
    (tmp_path / "mended").touch()
    options["resume_config" if isinstance(resume, ResumeConfig) else "resume"] = resume
    (trial,) = tune.run(Steps, **options).trials
    assert (trial.status, trial.last_result["score"], trial.last_result["began"]) == ("TERMINATED", 4, began)
    options.pop("resume_config", options.pop("resume", None))
    (trial,) = tune.run(Steps, **{**options, "resume_config": ResumeConfig(finished="restart")}).trials
    assert trial.last_result["began"] == 0


def test_resume_of_what_is_not_there_begins(runtime: Any, tmp_path: Path) -> None:
    for name, how in (("a", {"resume": True}), ("b", {"resume": "AUTO"}), ("c", {"resume_config": ResumeConfig()})):
        analysis = tune.run(line, name=name, config={"slope": 1}, storage_path=str(tmp_path), verbose=0, **how)
        assert [trial.status for trial in analysis.trials] == ["TERMINATED"]


def test_a_failed_experiment_among_others(runtime: Any, tmp_path: Path) -> None:
    def fails(config: dict[str, Any]) -> None:
        raise ValueError("no good")

    def both() -> list[Experiment]:
        names = str(time.monotonic_ns())
        return [
            Experiment(f"bad {names}", fails, storage_path=str(tmp_path)),
            Experiment(f"good {names}", line, config={"slope": 1}, storage_path=str(tmp_path)),
        ]

    trials = tune.run_experiments(both(), verbose=0, raise_on_failed_trial=False)
    assert [trial.status for trial in trials] == ["ERROR", "TERMINATED"]
    with pytest.raises(TuneError, match="no good"):
        tune.run_experiments(both(), verbose=0)


@pytest.mark.parametrize(
    ("experiments", "message"),
    [
        ({"a": {"config": {}}}, "'a' has no 'run'"),
        ({"a": {"run": line, "no_such": 1}}, "no_such"),
        ([], "is no tune.Experiment"),
        ([line], "is no tune.Experiment"),
    ],
)
def test_what_is_no_experiment(runtime: Any, experiments: Any, message: str) -> None:
    with pytest.raises(TuneError, match=message):
        tune.run_experiments(experiments)


def test_resume_says_what_it_takes(runtime: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\+ERRORED"):
        tune.run(line, name="s", resume="SOMETIMES", storage_path=str(tmp_path))
    with pytest.raises(ValueError, match="name"):
        tune.run(line, resume="AUTO", storage_path=str(tmp_path))


class _Slow:
    """Stands for a search whose trial needs what another holds."""

    def __init__(self, turns: int, log: list[str], name: str) -> None:
        self.turns, self.log, self.name, self.fatal = turns, log, name, None
        self.calls = [name]

    def begin(self) -> None:
        self.log.append(f"{self.name} begins")

    def fill(self) -> None:
        self.log.append(f"{self.name} fills")

    def over(self) -> bool:
        return self.turns == 0

    def timeout(self) -> None:
        return None

    def wait_for(self, calls: Any, timeout: Any) -> None:
        self.log.append("waits")

    def turn(self, timeout: float | None) -> None:
        self.turns -= 1
        if self.turns == 5:
            raise RuntimeError("broken")

    def interrupted(self) -> None:
        self.log.append(f"{self.name} interrupted")

    def end(self) -> None:
        self.log.append(f"{self.name} ends")


def test_each_search_ends_when_it_is_over_and_all_when_one_breaks() -> None:
    log: list[str] = []
    run_together([_Slow(2, log, "a"), _Slow(1, log, "b")])  # type: ignore[list-item]
    assert [line for line in log if "fills" not in line] == ["a begins", "b begins", "waits", "b ends", "a ends"]
    assert log[:4] == ["a begins", "b begins", "a fills", "b fills"]
    log.clear()
    with pytest.raises(RuntimeError, match="broken"):
        run_together([_Slow(9, log, "a"), _Slow(9, log, "b")])  # type: ignore[list-item]
    assert sorted(log[-2:]) == ["a ends", "b ends"]


def test_a_room_has_a_limit_for_all() -> None:
    class User:
        active, present, weightless, held = 1, True, 0, {"CPU": 1.5}

    room = Room(limit=2)
    assert room.empty
    room.enter(User())  # type: ignore[arg-type]
    assert not room.full
    room.enter(User())  # type: ignore[arg-type]
    assert room.full
    assert room.held("CPU") == 3
