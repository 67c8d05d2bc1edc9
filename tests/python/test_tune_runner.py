"""Searches on the runtime: what trials report, what is kept of it, what is refused."""

# ctest: timeout 300
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trireme import tune
from trireme.tune import Tuner
from tune_searches import fit, line

pytestmark = pytest.mark.usefixtures("runtime")


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


def test_restore_refuses_another_search(tmp_path: Path) -> None:
    space = {"slope": tune.grid_search([1.0, 2.0]), "more": {"depth": 3}}
    fit(line, tmp_path, space)
    path = tmp_path / "s"
    with pytest.raises(ValueError, match="trainable 'line', not with 'lambda'"):
        Tuner.restore(path, lambda config: {"score": 1})
    for other in ({"slope": 1.0}, {"slope": 1.0, "more": {"width": 3}}, {}):
        with pytest.raises(ValueError, match="has the keys more/depth, slope"):
            Tuner.restore(path, line, param_space=other)
    for same in (None, space):
        assert len(Tuner.restore(path, line, param_space=same).fit()) == 2


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
    with pytest.warns(UserWarning, match="this process runs no trial of a Tuner"):
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


def test_artifacts_are_in_the_storage_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    def writes(config: dict[str, Any]) -> None:
        Path("artifact.txt").write_text("kept")
        kept = Path(config["storage"]).rglob("artifact.txt")
        tune.report({"score": len(list(kept))})

    sync = tune.SyncConfig(sync_artifacts=True)
    (result,) = fit(writes, tmp_path, {"storage": str(tmp_path)}, run={"sync_config": sync})
    assert result.metrics["score"] == 1
    assert Path(result.path, "artifact.txt").read_text() == "kept"
    from trireme import train

    with pytest.raises(ValueError, match="sync_artifacts"):
        fit(train.DataParallelTrainer(lambda: None), tmp_path / "trainer", run={"sync_config": sync})
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    with pytest.raises(ValueError, match="RAY_CHDIR_TO_TRIAL_DIR"):
        fit(writes, tmp_path / "other", run={"sync_config": sync})


def test_output_goes_to_files(tmp_path: Path) -> None:
    def prints(config: dict[str, Any]) -> None:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        tune.report({"score": 1})

    (result,) = fit(prints, tmp_path, run={"log_to_file": True})
    assert Path(result.path, "stdout").read_text() == "to stdout\n"
    assert Path(result.path, "stderr").read_text() == "to stderr\n"


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


def test_a_search_whose_name_is_taken_begins_anew_and_the_earlier_stays(tmp_path: Path, caplog: Any) -> None:
    first = fit(line, tmp_path, {"slope": 1})
    second = fit(line, tmp_path, {"slope": tune.grid_search([2, 3])})
    assert "Tuner.restore" in caplog.text
    assert [result.metrics["score"] for result in second] == [10, 15]
    assert len(tune.ExperimentAnalysis(tmp_path / "s").trials) == 2
    assert len(Tuner.restore(tmp_path / "s", line).fit()) == 2
    # Put back, the earlier one is whole.
    assert Path(first[0].path, "result.json").exists()
    for file in ("tuner.pkl", "experiment.journal", "search_state.pkl"):
        (tmp_path / "s" / f"{file}.1").replace(tmp_path / "s" / file)
    (result,) = Tuner.restore(tmp_path / "s", line).fit()
    assert (result.metrics["score"], result.path) == (5, first[0].path)


def test_a_search_whose_name_is_that_of_one_that_runs_is_refused(tmp_path: Path) -> None:
    class Again(tune.Callback):
        seen: str = ""

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            if not self.seen:
                with pytest.raises(FileExistsError) as error:
                    fit(line, tmp_path, {"slope": 1})
                self.seen = str(error.value)
                with pytest.raises(FileExistsError, match="runs"):
                    Tuner.restore(tmp_path / "s", line).fit()

    again = Again()
    grid = fit(line, tmp_path, {"slope": 1}, run={"callbacks": [again]})
    assert "another RunConfig.name" in again.seen
    assert grid[0].metrics["score"] == 5
    assert not list((tmp_path / "s").glob("*.1"))


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
