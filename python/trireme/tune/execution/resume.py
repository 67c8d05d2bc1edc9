"""Rebuilds a search from its journal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trireme.tune.execution.checkpoint_book import Saved
from trireme.tune.execution.journal import read_journal, read_state
from trireme.tune.experiment.trial import Trial

if TYPE_CHECKING:
    from trireme.tune.execution.experiment import Experiment
    from trireme.tune.execution.tune_controller import TuneController
    from trireme.tune.tune_config import ResumeConfig


def load_trials(path: str, checkpoint_config: Any = None) -> dict[str, Trial]:
    """The trials of a search in the state of its journal's end."""
    trials: dict[str, Trial] = {}
    for record in read_journal(path):
        apply(trials, path, record, checkpoint_config)
    return trials


def apply(trials: dict[str, Trial], path: str, record: tuple[str, str, Any], checkpoint_config: Any = None) -> None:
    """Takes one record into the trials."""
    kind, trial_id, data = record
    if kind == "trial":
        trial = Trial(
            trial_id,
            data["trainable_name"],
            data["config"],
            path,
            data["index"],
            data["evaluated_params"],
            data["request"],
            checkpoint_config,
        )
        trial.dirname, trial.experiment_tag, trial.custom_trial_name = data["dirname"], data["tag"], data["name"]
        trials[trial_id] = trial
        return
    trial = trials[trial_id]
    if kind == "start":
        trial.status, trial.start_time = Trial.RUNNING, data["time"]
        trial.iterations_since_restore, trial.time_at_restore = 0, data["time_at_restore"]
    elif kind == "result":
        trial.location = data.get("where") or trial.location
        trial.iterations_since_restore += 1
        trial.update(trial.fill(data, data["done"]))
        if "folder" in data:
            trial.checkpoints.replay(saved_of(data, trial.last_result))
    elif kind == "saved":
        trial.checkpoints.replay(saved_of(data, trial.last_result))
    elif kind == "status":
        trial.status, trial.error = data["status"], data.get("error")
        trial.num_failures = data["failures"]
        if trial.is_finished() and trial.last_result:
            trial.last_result["done"] = True
    elif kind == "exploit":
        trial.set_config(data["config"])
        trial.set_experiment_tag(data["tag"])
    elif kind == "resources":
        trial.placement_group_factory = data


def saved_of(report: Mapping[str, Any], result: dict[str, Any]) -> Saved:
    """The checkpoint that came with a report, or that `save` made."""
    return Saved(
        report["folder_index"],
        report["folder"],
        report.get("folder_iteration", report.get("iteration", result.get("training_iteration", 0))),
        report.get("folder_time", report.get("total_s", result.get("time_total_s", 0.0))),
        dict(result),
    )


def restore(controller: TuneController, experiment: Experiment, config: ResumeConfig) -> None:
    """Brings a new controller to where the journal ends, and decides which trials go on: as `config` says."""
    state = read_state(experiment.path) or {"records": 0}
    if "searcher" in state:
        experiment.searcher.set_state(state["searcher"])
        experiment.scheduler.set_state(state["scheduler"])
        controller.callbacks.set_state(state["callbacks"])
        if state["stopper"] is not None:
            experiment.stopper = state["stopper"]
    trials: dict[str, Trial] = {}
    for number, record in enumerate(read_journal(experiment.path)):
        apply(trials, experiment.path, record, experiment.checkpoint)
        if number >= state["records"]:
            _replay(controller, experiment, trials[record[1]], record)
    for trial in trials.values():
        controller.adopt(trial)
        failed, ended = trial.status == Trial.ERROR, trial.is_finished()
        how = config.errored if failed else config.finished if ended else config.unfinished
        if how != config.ResumeType.SKIP:
            _go_on(trial, how == config.ResumeType.RESTART)
        elif not ended:
            controller.record_status(trial, Trial.TERMINATED)
            experiment.searcher.on_trial_complete(trial.trial_id, trial.last_result or None)


def _go_on(trial: Trial, from_start: bool) -> None:
    if from_start:
        trial.checkpoints.forget()
    if trial.is_finished():
        trial.error, trial.num_failures = None, 0
    trial.status = Trial.PENDING
    trial.checkpoints.forget_missing(trial.path)


def _replay(controller: TuneController, experiment: Experiment, trial: Trial, record: tuple[str, str, Any]) -> None:
    kind = record[0]
    if kind == "trial":
        experiment.searcher.replay_suggest(trial.trial_id)
        experiment.scheduler.on_trial_add(controller, trial)
    elif kind == "result":
        experiment.searcher.on_trial_result(trial.trial_id, trial.last_result)
        experiment.scheduler.replay_result(trial, trial.last_result)
    elif kind == "status" and trial.is_finished():
        experiment.searcher.on_trial_complete(
            trial.trial_id, trial.last_result or None, error=trial.status == Trial.ERROR
        )


def is_search(path: str) -> bool:
    """Whether the folder is that of a search."""
    from trireme.tune.execution.journal import JOURNAL_FILE

    return os.path.isfile(os.path.join(path, JOURNAL_FILE))
