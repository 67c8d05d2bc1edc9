"""Runs a search: starts trials, takes their reports, and does what searcher, scheduler and stopper say."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from trireme.tune.callback import CallbackList
from trireme.tune.error import TuneError
from trireme.tune.execution import resume
from trireme.tune.execution.experiment import Experiment
from trireme.tune.execution.journal import Journal
from trireme.tune.execution.placement_groups import PlacementGroupFactory
from trireme.tune.execution.processes import InStore, Totals, TrialProcesses
from trireme.tune.execution.required_metrics import RequiredMetrics
from trireme.tune.execution.room import Room, run_together
from trireme.tune.execution.trial_source import TrialSource
from trireme.tune.experiment.trial import Trial
from trireme.tune.failure import describe, is_placement_error, last_line, write_error
from trireme.tune.result_grid import ResultGrid
from trireme.tune.schedulers.trial_scheduler import TrialScheduler
from trireme.tune.stopper.stopper import deadline_of
from trireme.tune.tune_config import ResumeConfig

logger = logging.getLogger("trireme.tune")

# A job may grow while nothing else happens, so trials that found no room look again after this long.
_LOOK_FOR_ROOM_S = 5.0


class TuneController:
    """One search.

    Driven by events: it waits for the calls in flight and for nothing else, and hands out the next call of a trial
    before it logs the last one's report.

    Parameters
    ----------
    experiment
        What to search.
    backend
        Where trials run (`ActorBackend`).
    room
        Shared by the searches that run together; see `run_together`.

    Threading: one thread; schedulers, searchers, stoppers and callbacks are called from it.
    """

    def __init__(self, experiment: Experiment, backend: Any, room: Room | None = None) -> None:
        os.makedirs(experiment.path, exist_ok=True)
        self._experiment = experiment
        self._scheduler, self._searcher = experiment.scheduler, experiment.searcher
        self._source = TrialSource(experiment)
        self._trials: dict[str, Trial] = {}
        self._room = room or Room()
        self._all = self._room.trials  # of all searches that run together
        self.callbacks = CallbackList(experiment.callbacks)
        self._processes = TrialProcesses(experiment, backend, self._room)
        self._journal = Journal(experiment.path)
        self._turn = 0
        self._stopping = False
        self._begin: dict[str, InStore] = {}  # where a trial goes on, when not from its latest checkpoint
        self._stored: dict[str, InStore] = {}  # what a function trainable reported last
        self._waiting: dict[str, Trial] = {}  # PENDING or PAUSED
        self._unfinished = 0
        self.fatal: Exception | None = None  # why the search could not go on
        self._deadline: Any = None
        self._required = RequiredMetrics(experiment)
        self.start_time = time.time()

    # What schedulers use.

    @property
    def experiment_path(self) -> str:
        """The search's folder."""
        return self._experiment.path

    @property
    def search_ended(self) -> bool:
        """Whether no more trials will be created."""
        return self._source.ended or self._stopping

    def get_trials(self) -> list[Trial]:
        """All so far, in the order of creation."""
        return list(self._trials.values())

    def get_live_trials(self) -> list[Trial]:
        """Those that have not ended."""
        return [trial for trial in self._trials.values() if not trial.is_finished()]

    def trial(self, trial_id: str) -> Trial:
        """The trial with an id."""
        return self._trials[trial_id]

    def is_live(self, trial_id: str) -> bool:
        """Whether that trial has not ended."""
        return trial_id in self._trials and not self._trials[trial_id].is_finished()

    def waiting_trials(self) -> list[Trial]:
        """Those that are PENDING or PAUSED and could start, PENDING ones first, in the order of their coming."""
        ready = [trial for trial in self._waiting.values() if not self._processes.is_leaving(trial)]
        return sorted(ready, key=lambda trial: trial.status == Trial.PAUSED)

    def stop_trial(self, trial: Trial) -> None:
        """Ends a trial that runs or waits."""
        if trial.is_finished():
            return
        self._scheduler.on_trial_remove(self, trial)
        self._searcher.on_trial_complete(trial.trial_id, trial.last_result or None)
        self._finish(trial)

    def pause_trial(self, trial: Trial, should_checkpoint: bool = True) -> None:
        """Sets a running trial aside; it goes on from what it saves now (a function: from what it last reported)."""
        if trial.status != Trial.RUNNING:
            return
        if should_checkpoint and self._processes.is_class:
            if self._scheduler.checkpoints_in_object_store:
                self._begin[trial.trial_id] = self._packed(trial)
            else:
                self._processes.save(trial)
        elif trial.trial_id in self._stored:
            self._begin[trial.trial_id] = self._stored[trial.trial_id]
        self.record_status(trial, Trial.PAUSED)
        self._processes.leave(trial)

    def unpause_trial(self, trial: Trial) -> None:
        """Lets a paused trial be chosen before other paused ones."""
        if trial.status == Trial.PAUSED:
            self.record_status(trial, Trial.PENDING)

    def total_resources(self) -> dict[str, float]:
        """What the job has, by name."""
        return dict(self._processes.known_resources())

    def node_resources(self) -> list[dict[str, float]]:
        """What each of the job's ranks has."""
        return self._processes.node_resources()

    @property
    def _resource_updater(self) -> Totals:  # what Ray's examples of allocation functions ask
        return Totals(self.total_resources())

    def new_trials_fit(self) -> bool:
        """Whether there is room for trials that are still to be created."""
        request = self._scheduler.base_trial_resources
        if self.search_ended or self._source.waits or request is None or not self._processes.room_for_another([request]):
            return False
        return self._processes.room_for(request)

    def is_saved(self, trial: Trial) -> bool:
        """Whether a running trial that is paused now goes on from where it is: a class saves itself then, a function must
        have reported a checkpoint last."""
        now = trial.last_result.get("training_iteration")
        stored, saved = self._stored.get(trial.trial_id), trial.checkpoints.latest
        return self._processes.is_class or now in {latest.iteration for latest in (stored, saved) if latest is not None}

    def change_resources(self, trial: Trial, request: PlacementGroupFactory) -> None:
        """Has a trial reserve something else when it starts next."""
        trial.placement_group_factory = request
        self._journal.append("resources", trial.trial_id, request)

    def checkpoint_in_store(self, trial: Trial) -> InStore | None:
        """The trial's present state in the object store; None when it reported none yet."""
        if trial.status == Trial.RUNNING and self._processes.is_class:
            return self._packed(trial)
        return self._begin.get(trial.trial_id) or self._stored.get(trial.trial_id)

    def exploit(self, trial: Trial, donor: Trial, checkpoint: InStore, config: dict[str, Any], tag: str) -> None:
        """Has a trial go on from another one's checkpoint with a new configuration."""
        self._begin[trial.trial_id] = checkpoint
        self._stored.pop(trial.trial_id, None)
        trial.set_config(config)
        trial.set_experiment_tag(tag)
        self._journal.append("exploit", trial.trial_id, {"config": config, "tag": tag, "donor": donor.trial_id})
        if trial.status == Trial.RUNNING:
            self.record_status(trial, Trial.PAUSED)
            self._processes.leave(trial)

    def _packed(self, trial: Trial) -> InStore:
        result = trial.last_result
        return InStore(
            self._processes.pack(trial), result.get("training_iteration", 0), result.get("time_total_s", 0.0)
        )

    # The life of the search.

    def restore(self, config: ResumeConfig | None = None) -> None:
        """Goes on from the journal in the search's folder."""
        resume.restore(self, self._experiment, config or ResumeConfig())
        self._source.created = len(self._trials)

    def results(self) -> ResultGrid:
        """All trials as they are."""
        experiment, scheduler = self._experiment, self._scheduler
        metric, mode = experiment.metric or scheduler.metric, experiment.mode or scheduler.mode
        return ResultGrid(self.get_trials(), experiment.path, metric, mode)

    def adopt(self, trial: Trial) -> None:
        """Takes a trial into the search."""
        self._trials[trial.trial_id] = trial
        self._all.append(trial)

    def record_status(self, trial: Trial, status: str) -> None:
        """Changes a trial's status and writes it down."""
        trial.status = status
        if status in (Trial.PENDING, Trial.PAUSED):
            self._waiting.pop(trial.trial_id, None)
            self._waiting[trial.trial_id] = trial
        else:
            self._waiting.pop(trial.trial_id, None)
        error = None if trial.error is None else describe(trial.error)
        self._journal.append(
            "status", trial.trial_id, {"status": status, "failures": trial.num_failures, "error": error}
        )

    def run(self) -> list[Trial]:
        """Searches to the end.

        Returns
        -------
        list of Trial
            All of them. After Ctrl-C, too: the search can then be resumed.

        Raises
        ------
        TuneError
            The search cannot go on as it is defined.
        """
        run_together([self])
        return self.get_trials()

    # Parts of it, for run_together().

    def begin(self) -> None:
        """What comes before the first trial."""
        experiment = self._experiment
        self._room.open += 1
        self._unfinished = len(self.get_live_trials())
        self._waiting = {trial.trial_id: trial for trial in self.get_live_trials()}
        self._deadline = deadline_of(experiment.stopper)
        self.callbacks.setup(
            stop=experiment.stopper, num_samples=experiment.num_samples, total_num_samples=self._source.limit
        )
        self._save_state()
        self._population()

    @property
    def calls(self) -> list[Any]:
        """What it waits for."""
        return self._processes.calls

    def wait_for(self, calls: list[Any], timeout: float | None) -> None:
        """Blocks until one of the calls, of any of the searches, is over."""
        self._processes.wait_for(calls, timeout)

    def turn(self, timeout: float | None) -> None:
        """Waits for calls to be over, and does what comes of them."""
        experiment = self._experiment
        self._take(self._processes.wait(timeout))
        if experiment.stopper.stop_all() and not self._stopping:
            self._stop_all()
        self._processes.end_overdue()
        if experiment.reporter is not None and experiment.reporter.due_in() == 0:
            experiment.reporter.tick(self._all, False, self._scheduler.debug_string())

    def interrupted(self) -> None:
        """Ctrl-C: says how to go on."""
        path = self._experiment.path
        logger.warning("the search was interrupted; Tuner.restore(%r, trainable) goes on with it", path)

    def end(self) -> None:
        """Gives everything back: processes, files, references."""
        self._room.open -= 1
        try:
            self._processes.end_all()
            self._save_state()
        finally:
            self._journal.close()
            self._begin.clear()
            self._stored.clear()
            self._scheduler.on_search_end()
            self.callbacks.call("on_experiment_end", trials=self._all)
        if self._experiment.reporter is not None:
            self._experiment.reporter.tick(self._all, self._room.open == 0, self._scheduler.debug_string())

    def over(self) -> bool:
        """Whether nothing is left to do."""
        return not self._processes.busy and (self._stopping or (self._source.ended and not self._unfinished))

    def give_up(self) -> None:
        """Nothing runs, nothing can start, and it is not over: a TuneError that says why."""
        if not self._waiting:
            raise TuneError("the searcher proposes nothing although no trial runs whose result it could wait for")
        raise TuneError(
            f"{type(self._scheduler).__name__} starts none of the {len(self._waiting)} trials that wait, and no trial "
            "runs; with a limit on concurrent trials, it must not be below what the scheduler pauses"
        )

    def timeout(self) -> float | None:
        """How long it may wait for calls; None: without limit."""
        waits = [self._processes.overdue_in()]
        if self._deadline is not None and not self._stopping:
            waits.append(self._deadline.remaining())
        if self._experiment.reporter is not None:
            waits.append(self._experiment.reporter.due_in())
        if self._waiting or not self._source.ended:
            waits.append(_LOOK_FOR_ROOM_S)
        known = [wait for wait in waits if wait is not None]
        return min(known) if known else None

    def _population(self) -> None:
        """Population based training looks at all trials, so they are created at once."""
        if self._scheduler.checkpoints_in_object_store and self._source.limit is not None:
            while self._create() is not None:
                pass

    def _create(self) -> Trial | None:
        trial = self._source.next()
        if trial is None:
            return None
        self.adopt(trial)
        self._waiting[trial.trial_id] = trial
        self._unfinished += 1
        self._scheduler.on_trial_add(self, trial)
        self._journal.append(
            "trial",
            trial.trial_id,
            {
                "trainable_name": trial.trainable_name,
                "config": trial.config,
                "index": trial.index,
                "evaluated_params": trial.evaluated_params,
                "request": trial.placement_group_factory,
                "dirname": trial.dirname,
                "tag": trial.experiment_tag,
                "name": trial.custom_trial_name,
            },
        )
        return trial

    def fill(self) -> None:
        """Starts trials as long as there is room."""
        while (self._waiting or not self._source.ended) and not self._stopping and self._room_for_another():
            trial = self._scheduler.choose_trial_to_run(self)
            if trial is None:
                if self._create() is None:
                    return
                continue
            if not self._processes.room_for(trial.placement_group_factory):
                return
            self._start(trial)

    def _room_for_another(self) -> bool:
        requests: set[PlacementGroupFactory] = set()
        if self._scheduler.changes_resources:  # else trials are like each other
            requests = {trial.placement_group_factory for trial in self._waiting.values()}
            if (base := self._scheduler.base_trial_resources) is not None and not self._source.ended:
                requests.add(base)
        return self._processes.room_for_another(requests)

    def _start(self, trial: Trial) -> None:
        begin = self._begin.pop(trial.trial_id, None)
        saved = trial.checkpoints.latest
        trial.time_at_restore = begin.time_total_s if begin else saved.time_total_s if saved else 0.0
        trial.iterations_since_restore = 0
        trial.start_time = trial.start_time or time.time()
        self._waiting.pop(trial.trial_id, None)
        trial.status = Trial.RUNNING
        self._scheduler.on_trial_start(trial)
        self._processes.start(trial, begin)
        self._journal.append(
            "start", trial.trial_id, {"time": trial.start_time, "time_at_restore": trial.time_at_restore}
        )
        self._call("on_trial_start", trial)
        if begin is not None or saved is not None:
            self._call("on_trial_restore", trial)

    # Events.

    def _take(self, events: list[tuple[str, Trial, Any]]) -> None:
        self._turn += 1
        self.callbacks.call("on_step_begin", iteration=self._turn, trials=self._all)
        for kind, trial, value in events:
            if isinstance(value, BaseException):
                if kind == "step" and trial.status == Trial.RUNNING:
                    self._on_failure(trial, value)
                elif kind != "step":
                    logger.warning("%s: %s() failed at the end of the trial: %s", trial, kind, value)
            elif kind == "saved":
                self._journal.append("saved", trial.trial_id, value)
                self._on_checkpoint(trial, value)
            elif kind == "step" and trial.status == Trial.RUNNING:
                self._on_report(trial, value)
        self.callbacks.call("on_step_end", iteration=self._turn, trials=self._all)
        if self._journal.state_due():
            self._save_state()

    def _on_report(self, trial: Trial, report: dict[str, Any]) -> None:
        trial.location = report.get("where") or trial.location
        if report["metrics"] is None:  # the function has returned
            if trial.last_result:
                trial.last_result["done"] = True
            self._scheduler.on_trial_complete(self, trial, trial.last_result)
            self._searcher.on_trial_complete(trial.trial_id, trial.last_result or None)
            self._finish(trial, ended=True)
            return
        trial.iterations_since_restore += 1
        result = trial.fill(report, report["done"])
        self._required.check(trial, result)
        trial.update(result)
        stored = report.pop("stored", None)
        if stored is not None:
            self._stored[trial.trial_id] = InStore(stored, report["iteration"], report["total_s"])
        if "folder" in report:
            self._on_checkpoint(trial, report)
        stop = self._experiment.stopper(trial.trial_id, result) or report["done"]
        self._journal.append("result", trial.trial_id, report)
        decision = TrialScheduler.STOP
        if stop:
            result["done"] = True
            self._scheduler.on_trial_complete(self, trial, result)
        else:
            decision = self._scheduler.on_trial_result(self, trial, result)
        if decision == TrialScheduler.CONTINUE:
            self._processes.step(trial)
        result["done"] = result["done"] or decision == TrialScheduler.STOP
        if decision == TrialScheduler.STOP:
            self._searcher.on_trial_complete(trial.trial_id, result)
        else:
            self._searcher.on_trial_result(trial.trial_id, result)
        self._call("on_trial_result", trial, result=dict(result))
        if decision == TrialScheduler.PAUSE:
            self.pause_trial(trial)
        elif decision == TrialScheduler.STOP:
            self._finish(trial)

    def _on_checkpoint(self, trial: Trial, report: dict[str, Any]) -> None:
        trial.checkpoints.add(trial.path, resume.saved_of(report, trial.last_result))
        self._call("on_trial_save", trial)
        self._call("on_checkpoint", trial, checkpoint=trial.checkpoint)

    def _finish(self, trial: Trial, ended: bool = False) -> None:
        """A trial is done. `ended`: its function has returned, so there is nothing to stop."""
        running = trial.status == Trial.RUNNING
        self._unfinished -= 1
        self._source.waits = False
        self._begin.pop(trial.trial_id, None)
        self._stored.pop(trial.trial_id, None)
        if running and self._experiment.checkpoint.checkpoint_at_end and self._processes.is_class:
            # Not a second time, when its last step was saved anyway.
            latest = trial.checkpoints.latest
            if latest is None or latest.iteration != trial.last_result.get("training_iteration"):
                self._processes.save(trial)
        self.record_status(trial, Trial.TERMINATED)
        if running:
            self._processes.leave(trial, ended)
        self._call("on_trial_complete", trial)

    def _on_failure(self, trial: Trial, error: BaseException) -> None:
        began = self._processes.drop(trial)
        trial.num_failures += 1
        trial.error = error if isinstance(error, Exception) else RuntimeError(repr(error))
        write_error(trial)
        limit = self._experiment.failure.max_failures
        hopeless = is_placement_error(error)
        if self._stopping or hopeless or 0 <= limit < trial.num_failures:
            self._fail(trial, trial.error)
            if hopeless:
                asked = f"{trial} asks for {trial.placement_group_factory}"
                self._give_up(TuneError(f"{asked}, which can never be placed: {error}"))
            return
        allowed = limit if limit >= 0 else "any number"
        logger.warning("%s failed (%d of %s): %s", trial, trial.num_failures, allowed, last_line(error))
        self._call("on_trial_recover", trial)
        begin = self._stored.get(trial.trial_id) or began
        if begin is not None:
            self._begin[trial.trial_id] = begin
        trial.error = None
        self.record_status(trial, Trial.PENDING)

    def _fail(self, trial: Trial, error: Exception) -> None:
        """A trial failed for good."""
        self._unfinished -= 1
        self._source.waits = False
        self._begin.pop(trial.trial_id, None)
        self._stored.pop(trial.trial_id, None)
        self.record_status(trial, Trial.ERROR)
        self._scheduler.on_trial_error(self, trial)
        self._searcher.on_trial_complete(trial.trial_id, trial.last_result or None, error=True)
        self._call("on_trial_error", trial)
        if self._experiment.failure.fail_fast == "raise":
            self._give_up(error)
        elif self._experiment.failure.fail_fast:
            self._stop_all()

    def _give_up(self, error: Exception) -> None:
        self.fatal = error
        self._stop_all()

    def _stop_all(self) -> None:
        """Ends the search: running trials stop at their next report, waiting ones end as they are."""
        self._stopping = True
        for trial in self.get_live_trials():
            self._searcher.on_trial_complete(trial.trial_id, trial.last_result or None)
            if trial.last_result:
                trial.last_result["done"] = True
            self._finish(trial)

    def _call(self, hook: str, trial: Trial, **info: Any) -> None:
        self.callbacks.call(hook, iteration=self._turn, trials=self._all, trial=trial, **info)

    def _save_state(self) -> None:
        self._journal.save_state(
            {
                "searcher": self._searcher.get_state(),
                "scheduler": self._scheduler.get_state(),
                "stopper": self._experiment.stopper,
                "callbacks": self.callbacks.get_state(),
            }
        )
