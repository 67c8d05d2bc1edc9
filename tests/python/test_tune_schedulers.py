"""Schedulers decide as their papers say. Trials run in this process, so the order of reports is known."""

# ctest: one rank
from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trireme.tune.error import TuneError
from trireme.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
    create_scheduler,
)
from trireme.tune.schedulers.async_hyperband import Bracket
from trireme.tune.schedulers.pbt import explore
from trireme.tune.search import sample
from tune_inline import Curve, InlineBackend, search


class Named:
    """All that ASHA and the median rule see of a trial."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def decide(scheduler: TrialScheduler, script: list[tuple[str, int, float]]) -> list[str]:
    """The decisions on a sequence of (trial, iteration, score)."""
    names: dict[str, Named] = {}
    decisions = []
    for name, iteration, score in script:
        if name not in names:
            names[name] = Named(name)
            scheduler.on_trial_add(None, names[name])
        decisions.append(
            scheduler.on_trial_result(None, names[name], {"training_iteration": iteration, "score": score})
        )
    return decisions


GO, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def test_asha_on_a_written_sequence() -> None:
    """Rungs 1, 3, 9. Nothing is stopped between rungs; at a rung, whoever is below the best third so far is."""
    asha = ASHAScheduler(metric="score", mode="max", grace_period=1, reduction_factor=3, max_t=9)
    script = [
        ("a", 1, 5.0, GO),  # the first at rung 1
        ("b", 1, 4.0, STOP),  # below 5
        ("c", 1, 6.0, GO),  # the best third of {4, 5} begins at 4.67
        ("a", 2, 0.0, GO),  # no rung
        ("a", 3, 3.0, GO),  # the first at rung 3
        ("c", 3, 2.0, STOP),  # below 3
        ("d", 1, 5.0, STOP),  # the best third of {4, 5, 6} begins at 5.33
        ("e", 1, 5.5, GO),  # that of {4, 5, 5, 6} at 5
        ("e", 3, 3.5, GO),
        ("a", 9, 1.0, STOP),  # max_t
    ]
    assert decide(asha, [line[:3] for line in script]) == [line[3] for line in script]


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(("grace", "factor", "max_t"), [(1, 4, 100), (2, 3, 60), (1, 2, 33), (5, 4, 1000)])
def test_asha_equals_the_rule_written_down_directly(mode: str, grace: int, factor: int, max_t: int) -> None:
    """Against the rule as the paper states it, on random scores: at a rung, stop unless in the best 1/factor."""
    rng = np.random.default_rng(7)
    asha = ASHAScheduler(metric="score", mode=mode, grace_period=grace, reduction_factor=factor, max_t=max_t)
    rungs: dict[int, list[float]] = {}
    rung = grace
    while rung <= max_t:
        rungs[rung] = []
        rung *= factor
    live = {f"t{number}": 0 for number in range(60)}
    trials = {name: Named(name) for name in live}
    for name in live:
        asha.on_trial_add(None, trials[name])
    stopped = 0
    while live:
        name = list(live)[int(rng.integers(len(live)))]
        live[name] += 1
        score = float(rng.normal())
        got = asha.on_trial_result(None, trials[name], {"training_iteration": live[name], "score": score})
        better = score if mode == "max" else -score
        wanted = GO
        if live[name] >= max_t:
            wanted = STOP
        elif live[name] in rungs:
            before = rungs[live[name]]
            if before and better < np.quantile(before, 1 - 1 / factor):
                wanted = STOP
            before.append(better)
        assert got == wanted, (name, live[name])
        if got == STOP:
            stopped += live[name] < max_t
            del live[name]
    assert stopped > 20


def test_asha_rungs_are_exact_powers() -> None:
    assert [milestone for milestone, _ in Bracket(1, 1000, 10, 0).rungs] == [1000, 100, 10, 1]
    assert [milestone for milestone, _ in Bracket(1, 81, 3, 1).rungs] == [81, 27, 9, 3]


def test_asha_brackets_are_drawn_with_the_seed() -> None:
    def brackets(seed: int) -> dict[str, int]:
        asha = ASHAScheduler(metric="score", mode="max", brackets=3, seed=seed)
        for number in range(30):
            asha.on_trial_add(None, Named(str(number)))
        return asha._bracket_of

    assert brackets(1) == brackets(1) != brackets(2)
    assert set(brackets(1).values()) == {0, 1, 2}


def test_asha_finds_the_best_of_a_search(tmp_path: Path) -> None:
    slopes = [3, 1, 4, 1.5, 9, 2, 6, 5]
    space = {"slope": sample.grid_search(slopes), "steps": 27}
    trials = search(
        tmp_path / "s", space, scheduler=ASHAScheduler(grace_period=1, reduction_factor=3, max_t=27), cpus=4
    )
    ran = {trial.config["slope"]: trial.last_result["training_iteration"] for trial in trials}
    assert ran[9] == 27
    assert ran[1] == ran[1.5] == ran[2] == 1
    assert all(trial.status == "TERMINATED" for trial in trials)


def test_asha_without_its_time_says_what_was_reported() -> None:
    asha = ASHAScheduler(time_attr="epoch", metric="score", mode="max")
    with pytest.raises(TuneError, match="time_attr is 'epoch'.*score, training_iteration"):
        decide(asha, [("a", 1, 1.0)])


@pytest.mark.parametrize(
    "options", [{"max_t": 0}, {"grace_period": 200}, {"reduction_factor": 1}, {"brackets": 0}, {"mode": "best"}]
)
def test_asha_refuses_nonsense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ASHAScheduler(**options)


def test_hyperband_brackets_have_the_published_sizes(tmp_path: Path) -> None:
    """max_t = 9, eta = 3: bracket s=2 has 9 trials of 1, then 3 of 3, 1 of 9; s=1 has 5 of 3, 1 of 9; s=0 has 3 of 9."""
    space = {"slope": sample.grid_search([float(n) for n in range(1, 18)]), "steps": 100}
    scheduler = HyperBandScheduler(max_t=9, reduction_factor=3)
    trials = search(tmp_path / "s", space, scheduler=scheduler, cpus=2)
    assert [bracket.size for bracket in scheduler._brackets] == [9, 5, 3]
    ran = [trial.last_result["training_iteration"] for trial in trials]
    assert ran[:9] == [1, 1, 1, 1, 1, 1, 3, 3, 9]
    assert ran[9:14] == [3, 3, 3, 3, 9]
    assert ran[14:] == [9, 9, 9]
    # Paused trials went on from their checkpoints: each iteration was run once.
    assert all(trial.last_result["at"] == trial.last_result["training_iteration"] for trial in trials)


def test_hyperband_ends_brackets_that_never_fill(tmp_path: Path) -> None:
    space = {"slope": sample.grid_search([1.0, 2.0, 3.0, 4.0]), "steps": 100}
    trials = search(tmp_path / "s", space, scheduler=HyperBandScheduler(max_t=9, reduction_factor=3), cpus=2)
    assert all(trial.status == "TERMINATED" for trial in trials)
    assert [trial.last_result["training_iteration"] for trial in trials] == [1, 1, 1, 9]


def test_hyperband_goes_on_when_a_trial_fails(tmp_path: Path) -> None:
    space = {"slope": sample.grid_search([1.0, 2.0, 3.0]), "steps": 100, "fail_at": sample.sample_from(_fails)}
    trials = search(tmp_path / "s", space, scheduler=HyperBandScheduler(max_t=3, reduction_factor=3), cpus=3)
    assert [trial.status for trial in trials] == ["TERMINATED", "TERMINATED", "ERROR"]


class Leaving:
    """A controller of two trials, the first of which is still leaving its process."""

    search_ended = True

    def __init__(self, trials: list[SimpleNamespace]) -> None:
        self.trials = trials
        self.leaving = {"first"}

    def waiting_trials(self) -> list[SimpleNamespace]:
        return [trial for trial in self.trials if trial.status == "PAUSED" and trial.trial_id not in self.leaving]

    def is_live(self, trial_id: str) -> bool:
        return self.trial(trial_id).status != "TERMINATED"

    def trial(self, trial_id: str) -> SimpleNamespace:
        return next(trial for trial in self.trials if trial.trial_id == trial_id)


def test_hyperband_goes_on_with_a_winner_that_was_still_leaving_its_process() -> None:
    """It was forgotten, and the search gave up."""
    scheduler = HyperBandScheduler(max_t=4, reduction_factor=2, metric="score", mode="max")
    first, second = (SimpleNamespace(trial_id=name, status="RUNNING", PENDING="PENDING") for name in ("first", "second"))
    controller: Any = Leaving([first, second])
    for trial in (first, second):
        scheduler.on_trial_add(controller, trial)
    assert scheduler.on_trial_result(controller, first, {"training_iteration": 1, "score": 2.0}) == TrialScheduler.PAUSE
    first.status = "PAUSED"
    assert scheduler.on_trial_result(controller, second, {"training_iteration": 1, "score": 1.0}) == STOP
    second.status = "TERMINATED"
    assert scheduler.choose_trial_to_run(controller) is None
    controller.leaving.clear()
    assert scheduler.choose_trial_to_run(controller) is first
    first.status = "RUNNING"
    assert scheduler.choose_trial_to_run(controller) is None


def _fails(config: Any) -> int:
    return 2 if config["slope"] == 3.0 else 1000


def test_median_rule_on_a_written_sequence() -> None:
    rule = MedianStoppingRule(
        time_attr="training_iteration", metric="score", mode="max", grace_period=2, min_samples_required=2
    )
    script = [
        ("a", 1, 1.0, GO),
        ("a", 2, 2.0, GO),
        ("a", 3, 6.0, GO),  # means from 2 on: 2, 4
        ("b", 2, 4.0, GO),  # one other trial: too few
        ("b", 3, 4.0, GO),
        ("c", 1, 0.0, GO),  # grace
        ("c", 2, 3.0, GO),  # median of {2, 4} is 3: not worse
        ("c", 3, 3.9, STOP),  # means at 3: a 4, b 4; the best of c is 3.9
    ]
    assert decide(rule, [line[:3] for line in script]) == [line[3] for line in script]


def test_median_rule_pauses_softly() -> None:
    rule = MedianStoppingRule(
        time_attr="training_iteration",
        metric="score",
        mode="min",
        grace_period=0,
        min_samples_required=1,
        hard_stop=False,
    )
    assert decide(rule, [("a", 1, 1.0), ("b", 1, 2.0), ("b", 2, 2.0)]) == [GO, TrialScheduler.PAUSE, GO]


class Adds(Curve):
    """Its score is the sum of its rates, so a checkpoint and the present rate matter both."""

    def setup(self, config: dict[str, Any]) -> None:
        self.at, self.total = 0, 0.0
        self.weights = np.zeros(1000)

    def step(self) -> dict[str, Any]:
        self.at += 1
        self.total += self.config["rate"]
        self.weights += self.config["rate"]
        return {"score": self.total, "at": self.at, "weight": float(self.weights[0]), "done": self.at >= 20}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"at": self.at, "total": self.total, "weights": self.weights}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.at, self.total, self.weights = checkpoint["at"], checkpoint["total"], checkpoint["weights"]


class AddsInFiles(Adds):
    """The same, saving files."""

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        np.savez(os.path.join(checkpoint_dir, "state.npz"), **super().save_checkpoint(checkpoint_dir))

    def load_checkpoint(self, checkpoint: Any) -> None:
        assert isinstance(checkpoint, str)
        state = np.load(os.path.join(checkpoint, "state.npz"))
        super().load_checkpoint({"at": int(state["at"]), "total": float(state["total"]), "weights": state["weights"]})


def population(path: Path, trainable: Any = Adds, cpus: int = 4, **options: Any) -> tuple[list[Any], Any]:
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=4,
        hyperparam_mutations={"rate": sample.uniform(0, 1)},
        seed=3,
        **options,
    )
    space = {"rate": sample.grid_search([0.1, 0.2, 0.5, 1.0])}
    trials = search(path, space, trainable=trainable, scheduler=scheduler, cpus=cpus)
    return trials, scheduler


@pytest.mark.parametrize("trainable", [Adds, AddsInFiles])
@pytest.mark.parametrize("synch", [False, True])
def test_pbt_lifts_the_bad_ones(tmp_path: Path, trainable: Any, synch: bool) -> None:
    trials, scheduler = population(tmp_path / "s", trainable, synch=synch)
    assert scheduler._num_exploits >= 2
    scores = [trial.last_result["score"] for trial in trials]
    assert min(scores) > 6  # the rates 0.1 and 0.2 alone would have come to 2 and 4
    assert all(trial.last_result["weight"] == pytest.approx(trial.last_result["score"]) for trial in trials)
    assert all(trial.status == "TERMINATED" for trial in trials)
    assert all(trial.last_result["at"] == trial.last_result["training_iteration"] for trial in trials)
    assert not list((tmp_path / "s").glob("*/checkpoint_*")), "checkpoints are in the object store, not on disk"


def test_pbt_takes_turns_when_the_population_is_larger_than_the_machine(tmp_path: Path) -> None:
    backend = InlineBackend(cpus=1)
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=4,
        hyperparam_mutations={"rate": [0.1, 0.2, 0.5, 1.0]},
        seed=3,
    )
    space = {"rate": sample.grid_search([0.1, 0.2, 0.5, 1.0])}
    trials = search(tmp_path / "s", space, trainable=Adds, scheduler=scheduler, backend=backend)
    assert backend.most_running == 1
    assert scheduler._num_exploits >= 2
    assert all(trial.last_result["at"] >= 20 for trial in trials)


def test_pbt_is_reproducible(tmp_path: Path) -> None:
    first, second = (
        [(trial.config["rate"], trial.last_result["score"], trial.experiment_tag) for trial in population(path)[0]]
        for path in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second
    assert any("@perturbed[rate=" in tag for _, _, tag in first)


def test_pbt_logs_each_change(tmp_path: Path) -> None:
    _, scheduler = population(tmp_path / "s")
    lines = (tmp_path / "s" / "pbt_global.txt").read_text().splitlines()
    assert len(lines) == scheduler._num_exploits


def test_pbt_goes_on_without_any_folder_of_the_donor(tmp_path: Path) -> None:
    class Forgetful(Adds):
        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            shutil.rmtree(checkpoint_dir)
            os.makedirs(checkpoint_dir)
            return super().save_checkpoint(checkpoint_dir)

    trials, scheduler = population(tmp_path / "s", Forgetful)
    assert scheduler._num_exploits >= 2
    assert min(trial.last_result["score"] for trial in trials) > 6


def test_explore() -> None:
    rng = np.random.default_rng(0)
    config = {"lr": 1.0, "batch": 10, "act": "b", "deep": {"x": 2.0}, "kept": [1]}
    mutations = {"lr": sample.uniform(5, 6), "batch": lambda: 77, "act": ["a", "b", "c"], "deep": {"x": [1.0, 2.0]}}
    for _ in range(50):
        new, done = explore(config, mutations, 0.0, (1.2, 0.8), None, rng)
        assert new["lr"] in (1.2, 0.8)
        assert new["batch"] in (12, 8)
        assert type(new["batch"]) is int
        assert new["act"] in ("a", "c")
        assert new["deep"]["x"] in (1.0, 2.0)
        assert new["kept"] == [1]
        assert set(done) == set(mutations)
    new, _ = explore(config, mutations, 1.0, (1.2, 0.8), lambda c: {**c, "extra": 1}, rng)
    assert 5 <= new["lr"] <= 6
    assert new["batch"] == 77
    assert new["extra"] == 1
    assert config["lr"] == 1.0


def test_pbt_draws_values_that_the_space_leaves_out(tmp_path: Path) -> None:
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=5,
        hyperparam_mutations={"rate": sample.uniform(0.5, 1)},
        seed=1,
    )
    trials = search(tmp_path / "s", {}, trainable=Adds, scheduler=scheduler, cpus=3, num_samples=3)
    assert all("rate" in trial.config for trial in trials)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hyperparam_mutations": {"a": 5}},
        {"hyperparam_mutations": {"a": [1]}, "quantile_fraction": 0.7},
        {"hyperparam_mutations": {"a": [1]}, "perturbation_interval": 0},
        {"hyperparam_mutations": {"a": {"grid_search": [1]}}},
    ],
)
def test_pbt_refuses_nonsense(options: dict[str, Any]) -> None:
    with pytest.raises(TuneError):
        PopulationBasedTraining(**options)


def test_schedulers_by_name() -> None:
    assert isinstance(create_scheduler("asha", max_t=5), ASHAScheduler)
    assert isinstance(create_scheduler("fifo"), FIFOScheduler)
    with pytest.raises(ValueError, match="choose one of.*hyperband"):
        create_scheduler("best")


def test_scores_that_are_no_numbers_do_not_stop_a_search() -> None:
    asha = ASHAScheduler(metric="score", mode="max", grace_period=1, reduction_factor=2, max_t=9)
    assert decide(asha, [("a", 1, math.nan), ("b", 1, 1.0), ("c", 1, 0.5)]) == [GO, GO, STOP]
