"""ResourceChangingScheduler: who gets how much, and that trials go on with it where they were."""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from trireme import tune
from trireme.tune import Callback, PlacementGroupFactory, ResumeConfig, TuneError
from trireme.tune.schedulers import (
    ASHAScheduler,
    DistributeResources,
    DistributeResourcesToTopJob,
    PopulationBasedTraining,
    ResourceChangingScheduler,
    create_scheduler,
)
from trireme.tune.search import BasicVariantGenerator, ConcurrencyLimiter
from tune_inline import Curve, InlineBackend, search
from tune_searches import fit, load, save


def cpus(request: PlacementGroupFactory) -> float:
    return request.required_resources.get("CPU", 0)


# Who gets how much.


class Live:
    """A trial that runs."""

    def __init__(self, *bundles: dict[str, float], score: float = 0.0) -> None:
        self.placement_group_factory = PlacementGroupFactory(list(bundles) or [{"CPU": 1}])
        self.last_result = {"training_iteration": 1, "score": score}


class Controller:
    """A job and the trials that run in it."""

    def __init__(self, total: dict[str, float], *trials: Live, nodes: list[dict[str, float]] | None = None) -> None:
        self.total, self.trials, self.nodes = total, list(trials), nodes or [total]

    def total_resources(self) -> dict[str, float]:
        return self.total

    def node_resources(self) -> list[dict[str, float]]:
        return self.nodes

    def get_live_trials(self) -> list[Live]:
        return self.trials


def shares(function: Any, total: dict[str, float], *trials: Live, base: Any = None, **job: Any) -> list[PlacementGroupFactory]:
    """What the trials get, asked one after the other, each having what it got then."""
    controller = Controller(total, *trials, **job)
    scheduler = ResourceChangingScheduler()
    scheduler.base_trial_resources = base or PlacementGroupFactory([{"CPU": 1}])
    scheduler.set_search_properties("score", "max")
    for trial in trials:
        trial.placement_group_factory = function(controller, trial, trial.last_result, scheduler)
    return [trial.placement_group_factory for trial in trials]


@pytest.mark.parametrize(
    ("total", "count", "wanted"),
    [(8, 1, [8]), (8, 2, [4, 4]), (8, 3, [3, 3, 2]), (8, 8, [1] * 8), (8, 9, [1] * 9), (1.5, 1, [1])],
)
def test_equal_shares(total: float, count: int, wanted: list[float]) -> None:
    assert [cpus(each) for each in shares(DistributeResources(), {"CPU": total}, *[Live() for _ in range(count)])] == wanted


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"increase_by": {"CPU": 2}}, [5, 3]),
        ({"increase_by": {"CPU": 2}, "increase_by_times": 1}, [3, 3]),
        ({"reserve_resources": {"CPU": 3}}, [3, 2]),
        ({"increase_by": {"CPU": 1, "GPU": 1}}, [2, 2]),
    ],
)
def test_units_limits_and_what_is_reserved(options: dict[str, Any], wanted: list[float]) -> None:
    got = shares(DistributeResources(**options), {"CPU": 8, "GPU": 2}, Live(), Live())
    assert [cpus(each) for each in got] == wanted
    gpus = 1 if "GPU" in options.get("increase_by", {}) else 0
    assert [each.required_resources.get("GPU", 0) for each in got] == [gpus, gpus]


def test_who_has_more_than_its_share_gives_back_before_others_take() -> None:
    function, total = DistributeResources(), {"CPU": 8}
    first, second = Live({"CPU": 8}), Live()
    assert [cpus(each) for each in shares(function, total, second, first)] == [1, 4]  # nothing was free yet
    assert [cpus(each) for each in shares(function, total, second, first)] == [4, 4]


def test_gpus_are_what_trials_with_gpus_get_more_of() -> None:
    base = PlacementGroupFactory([{"CPU": 1, "GPU": 1, "memory": 100}])
    (got,) = shares(DistributeResources(), {"CPU": 8, "GPU": 4}, Live(*base.bundles), base=base)
    assert got.bundles == [{"CPU": 1, "GPU": 4, "memory": 100}]


def test_bundles_are_added() -> None:
    base = PlacementGroupFactory([{"CPU": 1}, {"CPU": 2}], strategy="SPREAD")
    trials = [Live(*base.bundles) for _ in range(2)]
    got = shares(DistributeResources(add_bundles=True), {"CPU": 12}, *trials, base=base)
    assert [each.bundles for each in got] == [[{"CPU": 1}] + [{"CPU": 2}] * 3, [{"CPU": 1}] + [{"CPU": 2}] * 2]
    assert got[0].strategy == "SPREAD"


def test_one_bundle_is_not_larger_than_a_node() -> None:
    nodes = [{"CPU": 4.0}, {"CPU": 6.0}]
    assert [cpus(each) for each in shares(DistributeResources(), {"CPU": 10}, Live(), nodes=nodes)] == [6]
    bundles = shares(DistributeResources(add_bundles=True), {"CPU": 10}, Live(), nodes=nodes)
    assert [cpus(each) for each in bundles] == [10]


def test_the_best_gets_what_is_free_and_the_best_before_it_keeps_its_own() -> None:
    function, total = DistributeResourcesToTopJob(), {"CPU": 8}
    good, bad = Live(score=2), Live(score=1)
    assert [cpus(each) for each in shares(function, total, bad, good)] == [1, 7]
    bad.last_result["score"] = 3
    assert [cpus(each) for each in shares(function, total, bad, good)] == [1, 7]
    assert [cpus(each) for each in shares(DistributeResourcesToTopJob(metric="score", mode="min"), total, good)] == [8]
    # More trials than there is room for: it gives back.
    third = Live({"CPU": 2})
    assert [cpus(each) for each in shares(function, total, good, bad, third)] == [5, 1, 2]


@pytest.mark.parametrize("options", [{"increase_by": {"CPU": 0}}, {"increase_by": {"memory": 1}}, {"increase_by": {"CPU": -1}}])
def test_units_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="increase_by"):
        DistributeResources(**options)


def test_several_bundles_need_to_be_told_what_grows() -> None:
    base = PlacementGroupFactory([{"CPU": 1}, {"CPU": 2}])
    with pytest.raises(ValueError, match="add_bundles"):
        shares(DistributeResources(), {"CPU": 8}, Live(*base.bundles), base=base)
    with pytest.raises(TuneError, match="metric"):
        controller = Controller({"CPU": 8}, Live())
        scheduler = ResourceChangingScheduler()
        scheduler.base_trial_resources = PlacementGroupFactory([{"CPU": 1}])
        DistributeResourcesToTopJob()(controller, controller.trials[0], {"training_iteration": 1}, scheduler)


# In a search, in this process.


class Seen(Curve):
    """Reports what it has, and from where it began."""

    began = 0

    def step(self) -> dict[str, Any]:
        return {**super().step(), "cpus": cpus(self.trial_resources), "began": self.began}

    def load_checkpoint(self, checkpoint: Any) -> None:
        super().load_checkpoint(checkpoint)
        self.began = self.at


class History(Callback):
    """All reports by trial."""

    def __init__(self) -> None:
        self.reports: dict[int, list[tuple[float, int, int]]] = defaultdict(list)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.reports[trial.index].append((result["cpus"], result["began"], result["at"]))


def test_trials_go_on_with_more_where_they_were(tmp_path: Path) -> None:
    history, scheduler = History(), ResourceChangingScheduler()
    space = {"slope": 1.0, "steps": tune.grid_search([3, 6])}
    short, long = search(tmp_path / "s", space, cpus=4, trainable=Seen, scheduler=scheduler, callbacks=[history])
    assert [trial.status for trial in (short, long)] == ["TERMINATED"] * 2
    # Nobody lost or repeated a step.
    assert [at for _, _, at in history.reports[0]] == [1, 2, 3]
    assert [at for _, _, at in history.reports[1]] == [1, 2, 3, 4, 5, 6]
    had = [amount for amount, _, _ in history.reports[1]]
    assert had[0] == 1
    assert had[-1] == 4
    assert sorted(had) == had
    # Each time it got more, it went on from the step before.
    firsts = [(began, at) for (amount, began, at), before in zip(history.reports[1], [0, *had]) if amount != before]
    assert len(firsts) >= 3
    assert all(began == at - 1 for began, at in firsts)
    assert max(sum(pair) for pair in zip((a for a, _, _ in history.reports[0]), had)) <= 4
    assert scheduler.base_trial_resources == PlacementGroupFactory([{"CPU": 1}])


def test_what_the_base_scheduler_says_comes_first(tmp_path: Path) -> None:
    asha = ASHAScheduler(grace_period=2, reduction_factor=2, max_t=8)
    scheduler = ResourceChangingScheduler(asha)
    space = {"slope": tune.grid_search([3.0, 2.0, 1.0]), "steps": 20}
    trials = search(tmp_path / "s", space, cpus=3, trainable=Seen, scheduler=scheduler)
    assert [trial.last_result["at"] for trial in trials] == [8, 2, 2]
    assert trials[0].last_result["cpus"] == 3
    assert "reserve" in scheduler.debug_string()


def test_a_population_changes_too(tmp_path: Path) -> None:
    base = PopulationBasedTraining(
        time_attr="training_iteration", perturbation_interval=3, hyperparam_mutations={"slope": tune.uniform(0, 1)}, seed=1
    )
    scheduler = ResourceChangingScheduler(base)
    space = {"slope": tune.grid_search([0.1, 1.0]), "steps": tune.grid_search([8, 16])}
    trials = search(tmp_path / "s", space, cpus=8, trainable=Seen, scheduler=scheduler)
    assert {trial.status for trial in trials} == {"TERMINATED"}
    assert max(trial.last_result["cpus"] for trial in trials) > 2
    assert base._num_exploits > 0


def test_trials_that_wait_and_those_to_come_start_before_others_grow(tmp_path: Path) -> None:
    history = History()
    space = {"slope": 1.0, "steps": tune.grid_search([4, 4, 4, 9])}
    search(tmp_path / "s", space, cpus=2, trainable=Seen, scheduler=ResourceChangingScheduler(), callbacks=[history])
    assert [amount for index in range(3) for amount, _, _ in history.reports[index]] == [1] * 12
    last = [amount for amount, _, _ in history.reports[3]]
    assert last[:4] == [1] * 4  # as long as the third ran
    assert last[-3:] == [2] * 3


def test_what_no_new_trial_has_room_in_is_given_out(tmp_path: Path) -> None:
    class Three(Seen):
        @classmethod
        def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
            return PlacementGroupFactory([{"CPU": 3}])

    history = History()
    space = {"slope": 1.0, "steps": 4}
    scheduler = ResourceChangingScheduler()
    search(tmp_path / "s", space, cpus=8, num_samples=6, trainable=Three, scheduler=scheduler, callbacks=[history])
    assert [amount for amount, _, _ in history.reports[0]] == [3, 4, 4, 4]
    assert sorted(len(reports) for reports in history.reports.values()) == [4] * 6


def test_a_searcher_that_waits_does_not_hold_it_back(tmp_path: Path) -> None:
    history = History()
    searcher = ConcurrencyLimiter(BasicVariantGenerator(random_state=1), max_concurrent=1)
    options: dict[str, Any] = {"trainable": Seen, "searcher": searcher, "callbacks": [history], "num_samples": 3}
    search(tmp_path / "s", {"slope": 1.0, "steps": 3}, cpus=4, scheduler=ResourceChangingScheduler(), **options)
    assert [[amount for amount, _, _ in history.reports[index]] for index in range(3)] == [[1, 4, 4]] * 3


def test_small_trials_start_beside_a_large_one(tmp_path: Path) -> None:
    def first_takes_most(controller: Any, trial: Any, result: Any, scheduler: Any) -> Any:
        return {"CPU": 3} if trial.index == 0 else None

    backend, scheduler = InlineBackend(4), ResourceChangingScheduler(resources_allocation_function=first_takes_most)
    space = {"slope": 1.0, "steps": tune.grid_search([40, 3, 3, 3])}
    trials = search(tmp_path / "s", space, trainable=Seen, scheduler=scheduler, backend=backend)
    assert [trial.last_result["at"] for trial in trials] == [40, 3, 3, 3]
    assert trials[0].last_result["cpus"] == 3
    # The others ran while it did.
    assert all(trial.last_result["timestamp"] <= trials[0].last_result["timestamp"] for trial in trials[1:])
    assert backend.most_running >= 2


class Killed(BaseException):
    """The search's process dies."""


def test_a_search_that_goes_on_knows_what_trials_had(tmp_path: Path) -> None:
    class Kill(Callback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            if result["at"] == 4:
                raise Killed

    space = {"slope": 1.0, "steps": 9}
    with pytest.raises(Killed):
        search(tmp_path / "s", space, cpus=4, trainable=Seen, scheduler=ResourceChangingScheduler(), callbacks=[Kill()])
    history = History()
    scheduler = ResourceChangingScheduler(resources_allocation_function=None)
    (trial,) = search(
        tmp_path / "s",
        space,
        cpus=4,
        trainable=Seen,
        scheduler=scheduler,
        callbacks=[history],
        resume=ResumeConfig(),
    )
    assert trial.last_result["at"] == 9
    assert {amount for amount, _, _ in history.reports[0]} == {4}
    assert scheduler.base_trial_resources == PlacementGroupFactory([{"CPU": 1}])
    again = ResourceChangingScheduler()
    again.set_state(pickle.loads(pickle.dumps(scheduler.get_state())))
    assert again.base_trial_resources == scheduler.base_trial_resources


def test_by_name() -> None:
    assert isinstance(create_scheduler("resource_changing"), ResourceChangingScheduler)


# In trials of the runtime.


def counts(config: dict[str, Any]) -> None:
    import trireme

    state = load({"step": 0})
    began = state["step"]
    while state["step"] < config["steps"]:
        state["step"] += 1
        held = trireme.get_runtime_context().get_assigned_resources()["CPU"]
        report = {"score": state["step"], "began": began, "held": held, "seen": cpus(tune.get_trial_resources())}
        if state["step"] % config.get("every", 1) == 0:
            save(state, report)
        else:
            tune.report(report)


def test_a_function_restarts_from_its_checkpoint_with_more_cpus(runtime: Any, tmp_path: Path) -> None:
    most = max(int(node["Resources"]["CPU"]) for node in runtime.nodes())
    if most < 2:
        pytest.skip("no rank has two CPUs")
    trial = tune.with_resources(counts, {"cpu": 1})
    grid = fit(trial, tmp_path, {"steps": 7, "every": 3}, scheduler=ResourceChangingScheduler())
    (result,) = grid
    assert grid.num_errors == 0
    rows = result.metrics_dataframe
    assert list(rows["score"]) == [1, 2, 3, 4, 5, 6, 7]
    assert list(rows["held"]) == list(rows["seen"]) == [1] * 3 + [most] * 4
    assert list(rows["began"]) == [0] * 3 + [3] * 4


def test_without_a_checkpoint_nothing_is_changed(runtime: Any, tmp_path: Path) -> None:
    (result,) = fit(counts, tmp_path, {"steps": 4, "every": 100}, scheduler=ResourceChangingScheduler())
    assert list(result.metrics_dataframe["held"]) == [1] * 4


def test_a_function_of_the_users_own_and_bundles(runtime: Any, tmp_path: Path) -> None:
    def allocate(tune_controller: Any, trial: Any, result: Any, scheduler: Any) -> Any:
        totals = tune_controller._resource_updater
        assert totals.get_num_cpus() == runtime.cluster_resources()["CPU"]
        assert totals.get_num_gpus() == runtime.cluster_resources().get("GPU", 0)
        return PlacementGroupFactory([{"CPU": 1}, {"CPU": 0.5}]) if result["training_iteration"] >= 2 else None

    def inside(config: dict[str, Any]) -> None:
        from trireme.util.placement_group import get_current_placement_group

        state = load({"step": 0})
        while state["step"] < 4:
            state["step"] += 1
            group = get_current_placement_group()
            save(state, {"score": state["step"], "bundles": group.bundle_count if group is not None else 0})

    scheduler = ResourceChangingScheduler(resources_allocation_function=allocate)
    (result,) = fit(tune.with_resources(inside, {"cpu": 1}), tmp_path, {}, scheduler=scheduler)
    assert list(result.metrics_dataframe["score"]) == [1, 2, 3, 4]
    assert list(result.metrics_dataframe["bundles"]) == [0, 0, 2, 2]
