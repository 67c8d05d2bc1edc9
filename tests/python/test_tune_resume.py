"""A search that was killed goes on where its journal ends. Trials run in this process."""

# ctest: one rank
from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from trireme.train import CheckpointConfig, FailureConfig
from trireme.tune import Callback, ExperimentAnalysis, ResultGrid, ResumeConfig
from trireme.tune.execution.journal import JOURNAL_FILE, Journal, read_journal
from trireme.tune.schedulers import ASHAScheduler
from trireme.tune.search import BasicVariantGenerator, sample
from tune_inline import Curve, InlineBackend, search


class Killed(BaseException):
    """The search's process dies."""


class KillAfter(Callback):
    """Dies at the nth report."""

    def __init__(self, reports: int) -> None:
        self.left = reports

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


SPACE = {"slope": sample.uniform(0, 1), "steps": 9}
RESUME = ResumeConfig()


def run(path: Path, **options: Any) -> Any:
    options.setdefault("num_samples", 8)
    options.setdefault("checkpoint", CheckpointConfig(checkpoint_frequency=1))
    return search(path, options.pop("space", SPACE), searcher=BasicVariantGenerator(random_state=11), **options)


def summary(trials: Any) -> list[tuple[Any, ...]]:
    return [(t.config["slope"], t.status, t.last_result["training_iteration"], t.last_result["score"]) for t in trials]


def test_journal_survives_a_torn_tail(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    for number in range(5):
        journal.append("result", "a", {"n": number, "f": (lambda: 1) if number == 3 else None})
    journal.close()
    file = tmp_path / JOURNAL_FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    assert [data["n"] for _, _, data in read_journal(str(tmp_path))] == [0, 1, 2, 3]
    again = Journal(str(tmp_path))
    assert again.count == 4
    again.append("result", "a", {"n": 9})
    again.close()
    assert [data["n"] for _, _, data in read_journal(str(tmp_path))] == [0, 1, 2, 3, 9]
    file.write_bytes(whole[:40] + b"x" + whole[41:])
    assert list(read_journal(str(tmp_path))) == []


@pytest.mark.parametrize("state", ["fresh", "old", "none"])
@pytest.mark.parametrize("reports", [1, 5, 20, 33])
def test_resumed_search_equals_one_that_was_not_killed(tmp_path: Path, reports: int, state: str) -> None:
    """Also when the state file is older than the journal, or was never written: the records after it are replayed."""

    def scheduler() -> ASHAScheduler:
        return ASHAScheduler(grace_period=1, reduction_factor=3, max_t=9)

    wanted = summary(run(tmp_path / "whole", scheduler=scheduler()))
    path = tmp_path / "killed"
    keep = _FirstState(path) if state == "old" else None
    with pytest.raises(Killed):
        run(path, scheduler=scheduler(), callbacks=[KillAfter(reports), *([keep] if keep else [])])
    if keep:
        keep.put_back()
    elif state == "none":
        (path / "search_state.pkl").unlink()
    got = run(path, scheduler=scheduler(), resume=RESUME)
    assert summary(got) == wanted
    assert all(trial.last_result["at"] == trial.last_result["training_iteration"] for trial in got)


class _FirstState(Callback):
    """Keeps the state file as it was at the first report."""

    def __init__(self, path: Path) -> None:
        self.path, self.content = path, b""

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.content = self.content or (self.path / "search_state.pkl").read_bytes()

    def put_back(self) -> None:
        content = self.content or (self.path / "search_state.pkl").read_bytes()
        (self.path / "search_state.pkl").write_bytes(content)

    def get_state(self) -> None:
        return None


def test_finished_trials_are_not_run_again(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "s", callbacks=[KillAfter(9 * 3 + 4)])
    backend = InlineBackend()
    trials = run(tmp_path / "s", resume=RESUME, backend=backend)
    assert backend.started == 8 - 3
    assert [trial.last_result["training_iteration"] for trial in trials] == [9] * 8


def test_unfinished_trials_can_be_left(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "s", callbacks=[KillAfter(9 * 2 + 4)])
    trials = run(tmp_path / "s", resume=ResumeConfig(unfinished="skip"))
    assert [trial.last_result["training_iteration"] for trial in trials] == [9, 9, 4, 9, 9, 9, 9, 9]


@pytest.mark.parametrize(("how", "first"), [("resume", 5), ("restart", 1), ("skip", 0)])
@pytest.mark.parametrize("kind", ["finished", "unfinished"])
def test_trials_go_on_start_again_or_stay(tmp_path: Path, kind: str, how: str, first: int) -> None:
    seen: list[int] = []

    class Seen(Curve):
        def step(self) -> dict[str, Any]:
            seen.append(self.at + 1)
            return super().step()

    space = {"slope": 1.0, "steps": 4 if kind == "finished" else 9}
    if kind == "finished":
        run(tmp_path / "s", space=space, num_samples=1)
    else:
        with pytest.raises(Killed):
            run(tmp_path / "s", space=space, num_samples=1, callbacks=[KillAfter(4)])
    config = ResumeConfig(**{kind: how})
    (trial,) = run(tmp_path / "s", space=space, num_samples=1, trainable=Seen, resume=config)
    assert trial.status == "TERMINATED"
    assert seen[:1] == ([first] if first else [])
    last = {"finished": {"resume": 5, "restart": 4, "skip": 4}, "unfinished": {"resume": 9, "restart": 9, "skip": 4}}
    assert trial.last_result["at"] == last[kind][how]
    # What a search that goes on from here finds is the same.
    (again,) = run(tmp_path / "s", space=space, num_samples=1, resume=ResumeConfig(unfinished="skip"))
    assert (again.status, again.last_result["at"]) == ("TERMINATED", last[kind][how])


def test_a_resume_config_that_is_none() -> None:
    assert ResumeConfig(finished=ResumeConfig.ResumeType.RESTART).finished == "restart"
    with pytest.raises(ValueError, match="'resume', 'restart' or 'skip'"):
        ResumeConfig(errored="again")


def test_without_checkpoints_a_trial_starts_again(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "s", callbacks=[KillAfter(5)], num_samples=1, checkpoint=CheckpointConfig())
    (trial,) = run(tmp_path / "s", resume=RESUME, num_samples=1, checkpoint=CheckpointConfig())
    assert trial.last_result["at"] == 9
    assert trial.last_result["training_iteration"] == 9


def test_a_checkpoint_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "s", callbacks=[KillAfter(5)], num_samples=1)
    newest = sorted((tmp_path / "s").glob("*/checkpoint_*"))[-1]
    os.rename(newest, tmp_path / "gone")
    (trial,) = run(tmp_path / "s", resume=RESUME, num_samples=1)
    assert trial.last_result["at"] == trial.last_result["training_iteration"] == 9


@pytest.mark.parametrize(("option", "first"), [("resume", 6), ("restart", 1)])
def test_failed_trials_go_on_or_start_again(tmp_path: Path, option: str, first: int) -> None:
    space = {**SPACE, "slope": 1.0, "fail_at": 6}
    (trial,) = run(tmp_path / "s", space=space, num_samples=1)
    assert trial.status == "ERROR"
    assert "fails at 6" in str(trial.error)
    seen: list[int] = []

    class Mended(Curve):
        def step(self) -> dict[str, Any]:
            self.config.pop("fail_at", None)
            seen.append(self.at + 1)
            return super().step()

    (trial,) = run(tmp_path / "s", space=space, num_samples=1, trainable=Mended, resume=ResumeConfig(errored=option))
    assert trial.status == "TERMINATED"
    assert seen[0] == first
    assert trial.error is None


def test_errors_stay_in_the_results(tmp_path: Path) -> None:
    run(tmp_path / "s", space={**SPACE, "slope": 1.0, "fail_at": 6}, num_samples=1)
    (trial,) = run(tmp_path / "s", space=SPACE, num_samples=1, resume=RESUME)
    assert trial.status == "ERROR"
    grid = ResultGrid.from_path(str(tmp_path / "s"), "score", "max")
    assert grid.num_errors == 1
    assert "fails at 6" in str(grid.errors[0])


def test_retries_go_on_from_the_latest_checkpoint(tmp_path: Path) -> None:
    seen: list[int] = []

    class Flaky(Curve):
        def step(self) -> dict[str, Any]:
            seen.append(self.at + 1)
            if self.at + 1 in (3, 6) and seen.count(self.at + 1) == 1:
                raise OSError("flaky")
            return super().step()

    (trial,) = run(tmp_path / "s", num_samples=1, trainable=Flaky, failure=FailureConfig(max_failures=2))
    assert seen == [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9]
    assert trial.num_failures == 2
    assert trial.status == "TERMINATED"
    assert "flaky" in Path(trial.path, "error.txt").read_text()


@pytest.mark.parametrize("fail_fast", [True, "raise"])
def test_fail_fast_ends_the_search(tmp_path: Path, fail_fast: Any) -> None:
    space = {"slope": sample.grid_search([1.0, 2.0, 3.0]), "steps": 9, "fail_at": 4}
    options = {"space": space, "num_samples": 1, "failure": FailureConfig(fail_fast=fail_fast)}
    if fail_fast == "raise":
        with pytest.raises(ValueError, match="fails at 4"):
            run(tmp_path / "s", **options)
        return
    trials = run(tmp_path / "s", **options)
    assert [trial.status for trial in trials] == ["ERROR"]


def test_best_checkpoints_are_kept(tmp_path: Path) -> None:
    class Hill(Curve):
        def step(self) -> dict[str, Any]:
            result = super().step()
            return {**result, "score": -abs(self.at - 4)}

    config = CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="score", checkpoint_frequency=1)
    (trial,) = run(tmp_path / "s", num_samples=1, trainable=Hill, checkpoint=config)
    left = sorted(path.name for path in Path(trial.path).glob("checkpoint_*"))
    assert left == ["checkpoint_000003", "checkpoint_000008"]  # the best and the latest
    grid = ResultGrid([trial], str(tmp_path / "s"), "score", "max")
    assert grid[0].get_best_checkpoint("score", "max").path.endswith("checkpoint_000003")
    assert grid[0].checkpoint.path.endswith("checkpoint_000008")
    stored = json.loads(Path(trial.path, "checkpoints.json").read_text())
    assert stored["latest"] == "checkpoint_000008"


def test_checkpoint_at_end(tmp_path: Path) -> None:
    (trial,) = run(tmp_path / "s", num_samples=1, checkpoint=CheckpointConfig(checkpoint_at_end=True))
    with open(Path(trial.checkpoint.path, "dict_checkpoint.pkl"), "rb") as file:
        assert pickle.load(file) == {"at": 9}


def test_a_searcher_that_gives_nothing_is_an_error(tmp_path: Path) -> None:
    from trireme.tune.error import TuneError
    from trireme.tune.search import Searcher

    class Mute(Searcher):
        def set_search_properties(self, *args: Any, **spec: Any) -> bool:
            return True

        def suggest(self, trial_id: str) -> None:
            return None

    with pytest.raises(TuneError, match="proposes nothing"):
        search(tmp_path / "s", {}, searcher=Mute(), num_samples=2)


def test_analysis_reads_a_folder(tmp_path: Path) -> None:
    run(tmp_path / "s")
    analysis = ExperimentAnalysis(tmp_path / "s", default_metric="score", default_mode="max")
    best = max(analysis.trials, key=lambda trial: trial.config["slope"])
    assert analysis.best_trial is best
    assert analysis.best_config == best.config
    assert analysis.best_result["score"] == pytest.approx(9 * best.config["slope"])
    assert analysis.best_checkpoint.path.startswith(best.path)
    assert analysis.stats()["TERMINATED"] == 8


def test_concurrency_is_bounded_and_fair(tmp_path: Path) -> None:
    class Order(Callback):
        def __init__(self) -> None:
            self.order: list[int] = []

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            self.order.append(trial.index)

    order, backend = Order(), InlineBackend(cpus=100)
    run(tmp_path / "s", num_samples=6, max_concurrent=3, backend=backend, callbacks=[order])
    assert backend.most_running == 3
    assert order.order[:9] == [0, 1, 2] * 3  # each in turn


def test_processes_are_reused_when_the_class_allows_it(tmp_path: Path) -> None:
    class Resets(Curve):
        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.at = 0
            return True

    backend = InlineBackend(cpus=2)
    trials = run(tmp_path / "a", trainable=Resets, reuse_actors=True, backend=backend)
    assert backend.started == 2
    assert backend.running == 0
    assert summary(trials) == summary(run(tmp_path / "b", cpus=2))
    fresh = InlineBackend(cpus=2)
    run(tmp_path / "c", trainable=Curve, reuse_actors=True, backend=fresh)
    assert fresh.started == 8
    assert fresh.running == 0
