"""Searches on the runtime: functions and classes, resources, failures, processes that die, Ctrl-C and kill -9."""

# ctest: timeout 300
from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trireme import tune
from trireme.tune import RunConfig, TuneConfig, Tuner
from trireme.tune.schedulers import ASHAScheduler, HyperBandScheduler, PopulationBasedTraining

pytestmark = pytest.mark.usefixtures("runtime")
needs_mpirun = pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun")
APART = Path(__file__).resolve().parents[1] / "support/rank_apart.sh"


@pytest.fixture(scope="module", autouse=True)
def nothing_is_kept(runtime: Any) -> Iterator[None]:
    """Classes that with_parameters made hold references, and are only given up by a collection."""
    yield
    gc.collect()


def fit(trainable: Any, path: Path, space: dict[str, Any] | None = None, **options: Any) -> tune.ResultGrid:
    run = {"name": "s", "storage_path": str(path), "verbose": 0, **options.pop("run", {})}
    config = {"metric": "score", "mode": "max", **options}
    return Tuner(
        trainable, param_space=space or {}, tune_config=TuneConfig(**config), run_config=RunConfig(**run)
    ).fit()


def save(state: Any, metrics: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "state.json").write_text(json.dumps(state))
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def load(default: Any) -> Any:
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return default
    with checkpoint.as_directory() as folder:
        return json.loads(Path(folder, "state.json").read_text())


def line(config: dict[str, Any]) -> None:
    for step in range(1, config.get("steps", 5) + 1):
        tune.report({"score": config["slope"] * step})


def test_functions_report_and_the_best_is_found(tmp_path: Path) -> None:
    grid = fit(line, tmp_path, {"slope": tune.grid_search([1.0, 3.0, 2.0])})
    assert len(grid) == 3
    assert grid.num_errors == 0
    best = grid.get_best_result()
    assert best.config["slope"] == 3.0
    assert best.metrics["score"] == 15
    assert best.metrics["training_iteration"] == 5
    assert best.metrics["done"]
    assert [report["score"] for report in best.metrics_history] == [3, 6, 9, 12, 15]
    assert best.metrics["pid"] != os.getpid()
    assert len({result.metrics["pid"] for result in grid}) == 3  # a process for each trial
    assert grid.get_best_result("score", "min", scope="all").config["slope"] == 1.0
    for file in ("result.json", "progress.csv", "params.json"):
        assert Path(best.path, file).exists()
    assert grid.experiment_path == str(tmp_path / "s")


def test_returned_and_yielded_values_are_reports(tmp_path: Path) -> None:
    def returns(config: dict[str, Any]) -> dict[str, float]:
        return {"score": config["x"] * 2}

    assert fit(returns, tmp_path / "a", {"x": 4}).get_best_result().metrics["score"] == 8
    grid = fit(lambda config: 2.5, tmp_path / "b", metric=None, mode=None)
    assert grid[0].metrics["_metric"] == 2.5

    def yields(config: dict[str, Any]) -> Any:
        for n in range(3):
            yield {"score": n}

    assert fit(yields, tmp_path / "c").get_best_result().metrics["training_iteration"] == 3


def test_a_trial_that_never_reports_ends_without_a_result(tmp_path: Path) -> None:
    grid = fit(lambda config: None, tmp_path, num_samples=2)
    assert grid.num_terminated == 2
    with pytest.raises(RuntimeError, match=r"none of the 2 trials \(0 failed\) reported.*'score'.*no numbers at all"):
        grid.get_best_result()


def test_a_wrong_metric_name_is_said_with_what_was_reported(tmp_path: Path) -> None:
    with pytest.raises(tune.TuneError, match="TuneConfig.metric is 'accuracy'.*it reported:.*score"):
        fit(line, tmp_path, {"slope": 1.0}, metric="accuracy")


def test_report_refuses_what_is_no_dict(tmp_path: Path) -> None:
    def wrong(config: dict[str, Any]) -> None:
        tune.report(3)

    (error,) = fit(wrong, tmp_path).errors
    assert isinstance(error, TypeError)
    assert "takes a dict of metrics" in str(error)
    with pytest.raises(RuntimeError, match="only in a function that a Tuner runs"):
        tune.report({"score": 1})


def test_context(tmp_path: Path) -> None:
    def says(config: dict[str, Any]) -> None:
        context = tune.get_context()
        Path("here.txt").write_text("x")
        tune.report(
            {
                "score": 1,
                "names": [context.get_experiment_name(), context.get_trial_name(), context.get_trial_id()],
                "folder": context.get_trial_dir(),
                "bundles": context.get_trial_resources().bundles,
            }
        )

    (result,) = fit(says, tmp_path, trial_name_creator=lambda trial: f"mine_{trial.index}")
    assert result.metrics["names"] == ["s", "mine_0", result.metrics["trial_id"]]
    assert result.metrics["folder"] == result.path
    assert Path(result.path, "here.txt").exists()
    assert result.metrics["bundles"] == [{"CPU": 1}]


def test_an_exception_is_kept_and_the_others_go_on(tmp_path: Path) -> None:
    def maybe(config: dict[str, Any]) -> None:
        tune.report({"score": config["x"]})
        if config["x"] == 1:
            raise ValueError("one is not wanted")

    grid = fit(maybe, tmp_path, {"x": tune.grid_search([0, 1, 2])})
    assert grid.num_errors == 1
    assert grid.num_terminated == 2
    assert isinstance(grid[1].error, ValueError)
    assert "one is not wanted" in str(grid[1].error)
    text = Path(grid[1].path, "error.txt").read_text()
    assert "in maybe" in text
    assert grid.get_best_result().metrics["score"] == 2


def walk(config: dict[str, Any]) -> None:
    """Goes on from its checkpoint; dies once where the config says."""
    state = load({"step": 0, "starts": 0})
    state["starts"] += 1
    while state["step"] < 6:
        state["step"] += 1
        marker = Path(config["folder"], f"died_{state['step']}")
        if state["step"] == config["dies_at"] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        save(state, {"score": state["step"], "starts": state["starts"]})


def test_a_killed_process_is_started_again_from_its_checkpoint(tmp_path: Path) -> None:
    failure = tune.FailureConfig(max_failures=1)
    space = {"folder": str(tmp_path), "dies_at": 4}
    (result,) = fit(walk, tmp_path, space, run={"failure_config": failure})
    assert result.error is None
    assert result.metrics["score"] == 6
    assert result.metrics["starts"] == 2
    assert result.metrics["training_iteration"] == 6
    assert [report["score"] for report in result.metrics_history] == [1, 2, 3, 4, 5, 6]


def test_a_killed_process_without_retries_is_an_error(tmp_path: Path) -> None:
    (result,) = fit(walk, tmp_path, {"folder": str(tmp_path), "dies_at": 3})
    assert type(result.error).__name__ in ("ActorDiedError", "RayActorError")
    assert result.metrics["score"] == 2


def test_a_search_is_stopped_at_a_report_and_cleans_up(tmp_path: Path) -> None:
    def endless(config: dict[str, Any]) -> None:
        step = 0
        try:
            while True:
                step += 1
                tune.report({"score": step})
        finally:
            Path("cleaned.txt").write_text(str(step))

    (result,) = fit(endless, tmp_path, run={"stop": {"training_iteration": 4}})
    assert result.metrics["score"] == 4
    assert Path(result.path, "cleaned.txt").read_text() == "4"


def test_time_budget_ends_a_search_that_would_not(tmp_path: Path) -> None:
    def endless(config: dict[str, Any]) -> None:
        while True:
            time.sleep(0.02)
            tune.report({"score": 1})

    grid = fit(endless, tmp_path, time_budget_s=1.0, num_samples=-1)
    assert len(grid) >= 1
    assert grid.num_errors == 0


def test_a_trial_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIREME_TUNE_STOP_GRACE_S", "0.5")

    class AfterFirst(tune.Stopper):
        seen = False

        def __call__(self, trial_id: str, result: Any) -> bool:
            self.seen = True
            return False

        def stop_all(self) -> bool:
            return self.seen

    def stuck(config: dict[str, Any]) -> None:
        tune.report({"score": 1})
        time.sleep(3600)

    (result,) = fit(stuck, tmp_path, run={"stop": AfterFirst()})
    assert result.metrics["score"] == 1


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
        assert len(list(Path(result.path).glob("checkpoint_*"))) == 2


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


def test_asha_stops_the_bad(tmp_path: Path) -> None:
    scheduler = ASHAScheduler(grace_period=2, reduction_factor=2, max_t=16)
    space = {"slope": tune.grid_search([4.0, 3.0, 2.0, 1.0, 5.0]), "steps": 100}
    grid = fit(line, tmp_path, space, scheduler=scheduler, max_concurrent_trials=1)
    assert [result.metrics["training_iteration"] for result in grid] == [16, 2, 2, 2, 16]


def resumable(config: dict[str, Any]) -> None:
    state = load({"total": 0.0, "step": 0})
    while True:
        state["step"] += 1
        state["total"] += config["rate"]
        save(state, {"score": state["total"], "step": state["step"]})


def test_hyperband_pauses_functions_that_save(tmp_path: Path) -> None:
    space = {"rate": tune.grid_search([1.0, 2.0, 3.0])}
    grid = fit(resumable, tmp_path, space, scheduler=HyperBandScheduler(max_t=3, reduction_factor=3))
    assert [result.metrics["step"] for result in grid] == [1, 1, 3]


@pytest.mark.parametrize("reuse", [False, True])
def test_pbt_with_functions(tmp_path: Path, reuse: bool) -> None:
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=3,
        hyperparam_mutations={"rate": tune.uniform(0, 1)},
        synch=True,  # else the first may have ended before the second begins
        seed=2,
    )
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

    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=3,
        hyperparam_mutations={"rate": tune.uniform(0, 1)},
        synch=True,
        seed=2,
    )
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


def test_processes_are_reused(tmp_path: Path) -> None:
    grid = fit(line, tmp_path, {"slope": tune.uniform(0, 1)}, num_samples=6, reuse_actors=True, max_concurrent_trials=1)
    assert len({result.metrics["pid"] for result in grid}) == 1
    assert grid.num_errors == 0
    assert all(result.metrics["training_iteration"] == 5 for result in grid)
    assert len({result.path for result in grid}) == 6


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


def test_output_goes_to_files(tmp_path: Path) -> None:
    def prints(config: dict[str, Any]) -> None:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        tune.report({"score": 1})

    (result,) = fit(prints, tmp_path, run={"log_to_file": True})
    assert Path(result.path, "stdout").read_text() == "to stdout\n"
    assert Path(result.path, "stderr").read_text() == "to stderr\n"


def test_trainables_that_are_none_say_so(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="takes one argument"):
        fit(lambda: None, tmp_path)
    with pytest.raises(TypeError, match="no trireme.tune.Trainable"):
        fit(int, tmp_path)
    with pytest.raises(ValueError, match="no trainable 'nothing'"):
        fit("nothing", tmp_path)
    with pytest.raises(TypeError, match="needs a trainable"):
        Tuner()


def test_registered_names_and_run(tmp_path: Path) -> None:
    tune.register_trainable("line", line)
    analysis = tune.run(
        "line",
        config={"slope": tune.grid_search([1, 2])},
        metric="score",
        mode="max",
        storage_path=str(tmp_path),
        verbose=0,
    )
    assert analysis.best_config == {"slope": 2}

    def fails(config: dict[str, Any]) -> None:
        raise RuntimeError("no good")

    with pytest.raises(tune.TuneError, match="no good"):
        tune.run(fails, storage_path=str(tmp_path), verbose=0)


def test_an_existing_search_is_not_overwritten(tmp_path: Path) -> None:
    fit(line, tmp_path, {"slope": 1})
    with pytest.raises(FileExistsError, match="Tuner.restore"):
        fit(line, tmp_path, {"slope": 1})


def test_dataframe(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    grid = fit(line, tmp_path, {"slope": tune.grid_search([1, -2])})
    frame = grid.get_dataframe()
    assert list(frame["config/slope"]) == [1, -2]
    assert list(frame["score"]) == [5, -10]
    assert list(grid.get_dataframe("score", "max")["score"]) == [5, -2]


PLOT = """
import sys
from trireme.tune import ResultGrid
grid = ResultGrid.from_path(sys.argv[1], "score", "max")
figure = grid.plot()
print(len(figure.axes), len(figure.axes[0].lines))
grid.plot(path=sys.argv[1] + "/other.svg")
"""


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    grid = fit(line, tmp_path, {"slope": tune.grid_search([0.001, 2.0]), "kind": tune.choice(["a", "b"])})
    assert grid.num_errors == 0
    # In a process of its own: Matplotlib keeps the files of its fonts open.
    drawn = subprocess.run(
        [sys.executable, "-c", PLOT, str(tmp_path / "s")], capture_output=True, text=True, timeout=120
    )
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.split() == ["3", "2"]  # panels; lines in the first
    for name in ("results.png", "other.svg"):
        assert (tmp_path / "s" / name).stat().st_size > 1000


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


KILLED = """
import os, sys, tempfile, json, time
from collections.abc import Iterator
from pathlib import Path
from trireme import tune

def trial(config):
    checkpoint = tune.get_checkpoint()
    step = int(Path(checkpoint.path, "step").read_text()) if checkpoint else 0
    while step < 6:
        step += 1
        if config["x"] == 2 and step == 4 and os.environ.get("HANG"):
            Path(os.environ["MARK"]).touch()
            time.sleep(3600)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "step").write_text(str(step))
            tune.report({"score": config["x"] * step, "from": step}, checkpoint=tune.Checkpoint.from_directory(folder))

if __name__ == "__main__":
    path = os.environ["STORE"]
    if os.environ.get("HANG"):
        Path(path, "driver").write_text(str(os.getpid()))
        tune.Tuner(trial, param_space={"x": tune.grid_search([1, 2, 3])},
            tune_config=tune.TuneConfig(metric="score", mode="max", max_concurrent_trials=1),
            run_config=tune.RunConfig(name="s", storage_path=path, verbose=0)).fit()
        print("interrupted", flush=True)
    else:
        grid = tune.Tuner.restore(path + "/s", trial).fit()
        print(json.dumps([[r.metrics["score"], [h["from"] for h in r.metrics_history]] for r in grid]))
"""


@pytest.mark.parametrize(
    ("how", "job"),
    [(signal.SIGKILL, 1), (signal.SIGINT, 1), pytest.param(signal.SIGKILL, 2, marks=needs_mpirun)],
    ids=["killed", "interrupted", "killed on two ranks"],
)
def test_a_search_whose_process_is_killed_goes_on(tmp_path: Path, how: signal.Signals, job: int, ranks: int) -> None:
    if ranks > 1:
        pytest.skip("starts jobs of its own")
    script = tmp_path / "search.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script)]
    if job > 1:
        launcher = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(job)]
        command = [*launcher, str(APART), sys.executable, "-m", "trireme", "run", str(script)]
    mark = tmp_path / "mark"
    env = {**os.environ, "STORE": str(tmp_path), "MARK": str(mark), "HANG": "1"}
    first = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.02)
    os.kill(int((tmp_path / "driver").read_text()), how)
    out, _ = first.communicate(timeout=60)
    assert ("interrupted" in out) == (how == signal.SIGINT)
    del env["HANG"]
    second = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert second.returncode == 0, second.stderr
    scores = json.loads(second.stdout.strip().splitlines()[-1])
    assert scores == [[6, [1, 2, 3, 4, 5, 6]], [12, [1, 2, 3, 4, 5, 6]], [18, [1, 2, 3, 4, 5, 6]]]
