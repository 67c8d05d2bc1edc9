"""Trials and searches that fail: exceptions, processes that die, trials that do not stop, Ctrl-C and kill -9."""

# ctest: timeout 300
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trireme import tune
from tune_searches import fit, load, save

pytestmark = pytest.mark.usefixtures("runtime")
needs_mpirun = pytest.mark.skipif(shutil.which("mpirun") is None, reason="there is no mpirun")
APART = Path(__file__).resolve().parents[1] / "support/rank_apart.sh"


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
