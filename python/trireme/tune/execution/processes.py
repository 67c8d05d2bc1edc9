"""The processes of a search's trials: which run, which are on their way out, which calls are in flight."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from trireme.tune.execution.experiment import Experiment
from trireme.tune.execution.placement_groups import PlacementGroupFactory
from trireme.tune.execution.room import Room
from trireme.tune.execution.trial_actor import NOT_RESET
from trireme.tune.experiment.trial import Trial
from trireme.tune.session import TrialInfo

logger = logging.getLogger("trireme.tune")

# Trials that reserve nothing are only limited by this many for each CPU.
_WEIGHTLESS_PER_CPU = 4
# A search that is interrupted waits so long for its trials to come to their next reports and out of them.
_END_GRACE_S = 5.0


@dataclass(frozen=True)
class InStore:
    """A trial's state in the object store, and where in its training it was."""

    ref: Any
    iteration: int
    time_total_s: float


@dataclass(frozen=True)
class Totals:
    """What the job has, as Ray's allocation functions ask for it."""

    amounts: dict[str, float]

    def get_num_cpus(self) -> float:
        return self.amounts.get("CPU", 0)

    def get_num_gpus(self) -> float:
        return self.amounts.get("GPU", 0)


@dataclass(eq=False)
class Process:
    """A trial's process. `leaving`: its trial has no more use for it."""

    handle: Any
    trial: Trial
    request: PlacementGroupFactory
    leaving: bool = False
    deadline: float | None = None
    begin: InStore | None = None  # where the trial began, when not from a checkpoint in its folder
    first_checkpoint: int = 0  # the number of the first that it writes
    calls: set[Any] = field(default_factory=set)


class TrialProcesses:
    """Starts, calls and ends the processes of trials. `room`: shared by the searches that run together.

    Threading: one thread.
    """

    def __init__(self, experiment: Experiment, backend: Any, room: Room) -> None:
        self._experiment, self._backend = experiment, backend
        self.is_class = isinstance(experiment.trainable, type)
        self._trainable = backend.put(experiment.trainable)
        self._running: dict[str, Process] = {}
        self._leaving: dict[str, Process] = {}
        self._idle: list[Process] = []
        self._calls: dict[Any, tuple[str, Process]] = {}  # in the order in which they were made: the fair one
        self.held: dict[str, float] = {}
        self.weightless = 0
        self._room = room
        room.enter(self)
        self._last_request: PlacementGroupFactory | None = None
        self._grace = float(os.environ.get("TRIREME_TUNE_STOP_GRACE_S", "30"))
        self._directory = os.getcwd()
        self._total: dict[str, float] = {}
        self._total_until = 0.0

    @property
    def busy(self) -> bool:
        """Whether any call is in flight."""
        return bool(self._calls)

    @property
    def calls(self) -> list[Any]:
        """References to what the calls in flight will return."""
        return list(self._calls)

    @property
    def active(self) -> int:
        """Processes that are trials' or were until now."""
        return len(self._running) + len(self._leaving)

    @property
    def present(self) -> bool:
        """Whether there is any process."""
        return bool(self._running or self._leaving or self._idle)

    def is_leaving(self, trial: Trial) -> bool:
        """Whether an earlier process of the trial is not gone yet."""
        return trial.trial_id in self._leaving

    # Room.

    def room_for_another(self, requests: Iterable[PlacementGroupFactory] = ()) -> bool:
        """Whether it makes sense to look for a trial to start: one like the last would fit, or one of these would."""
        limit = self._experiment.max_concurrent
        if self._room.full or (limit is not None and self.active >= limit):
            return False
        if self._last_request is None or self.room_for(self._last_request):
            return True
        return any(self.room_for(request) for request in requests)

    def room_for(self, request: PlacementGroupFactory) -> bool:
        """Whether a request fits beside what is held; always when nothing is, for then the runtime says what is wrong with
        it."""
        if any(process.request == request for process in self._idle):
            return True
        if self._room.empty:
            return True
        total = self.known_resources()
        need = request.required_resources
        if not need:
            return self._room.weightless < max(16, _WEIGHTLESS_PER_CPU * total.get("CPU", 1))
        if all(self._room.held(name) + amount <= total.get(name, 0) + 1e-6 for name, amount in need.items()):
            return True
        if self._idle:  # of another shape, so of no use
            self._end(self._idle.pop(0), force=False)
            return self.room_for(request)
        return False

    def known_resources(self) -> dict[str, float]:
        """What the job has; a job that grows is seen within a second, without asking at each report."""
        now = time.monotonic()
        if now >= self._total_until:
            self._total, self._total_until = self._backend.total_resources(), now + 1.0
        return self._total

    def node_resources(self) -> list[dict[str, float]]:
        """What each of the job's ranks has."""
        return self._backend.node_resources()

    def _hold(self, request: PlacementGroupFactory, sign: int) -> None:
        need = request.required_resources
        for name, amount in need.items():
            self.held[name] = self.held.get(name, 0) + sign * amount
        self.weightless += 0 if need else sign

    # A trial's life.

    def start(self, trial: Trial, begin: InStore | None) -> None:
        """Starts a trial's process, or has an idle one take the trial up, and calls the first step."""
        request = trial.placement_group_factory
        self._last_request = request
        info, start = self._info(trial, begin)
        os.makedirs(trial.path, exist_ok=True)
        idle = next((process for process in self._idle if process.request == request), None)
        if idle is not None:
            self._idle.remove(idle)
            idle.trial, idle.leaving, idle.begin = trial, False, begin
            idle.first_checkpoint = info.next_checkpoint
            self._running[trial.trial_id] = idle
            self._call(idle, "restart", "restart", trial.config, info, start)
            return
        self._hold(request, 1)
        handle = self._backend.start(self._trainable, trial.config, info, start, request, self._experiment.runtime_env)
        process = self._running[trial.trial_id] = Process(
            handle, trial, request, begin=begin, first_checkpoint=info.next_checkpoint
        )
        self._call(process, "step", "step")

    def step(self, trial: Trial) -> None:
        """Asks for the next report."""
        self._call(self._running[trial.trial_id], "step", "step")

    def save(self, trial: Trial) -> None:
        """Has a class trainable save itself into its folder; a ``saved`` event says when."""
        self._call(self._running[trial.trial_id], "saved", "save")

    def pack(self, trial: Trial) -> Any:
        """A reference to the class trainable's state, which never leaves the object store."""
        return self._backend.call(self._running[trial.trial_id].handle, "pack")

    def leave(self, trial: Trial, ended: bool = False) -> None:
        """Ends the trial's process, after the calls that are in flight. `ended`: the trainable has nothing to stop."""
        process = self._running.pop(trial.trial_id)
        process.leaving = True
        if ended:
            self._left(process)
            return
        self._leaving[trial.trial_id] = process
        process.deadline = time.monotonic() + self._grace
        self._call(process, "stop", "stop")

    def drop(self, trial: Trial) -> InStore | None:
        """Gives up the process of a trial that failed.

        Returns
        -------
        InStore or None
            Where it began, when it wrote no checkpoint since and did not begin from one in its folder.
        """
        process = self._running.pop(trial.trial_id)
        self._end(process, force=True)
        return process.begin if trial.checkpoints.next_index == process.first_checkpoint else None

    def wait_for(self, calls: list[Any], timeout: float | None) -> None:
        """Blocks until one of these calls, of whichever search, is over."""
        self._backend.wait(calls, timeout)

    def wait(self, timeout: float | None) -> list[tuple[str, Trial, Any]]:
        """Blocks until something happened.

        Returns
        -------
        list of (kind, trial, value)
            ``step`` with a report, ``saved`` with a checkpoint; the value is an exception when the call failed.
        """
        events: list[tuple[str, Trial, Any]] = []
        for ref in self._backend.wait(self._calls, timeout) if self._calls else ():
            kind, process = self._calls.pop(ref)
            process.calls.discard(ref)
            try:
                value = self._backend.get(ref)
            except Exception as error:
                value = error.with_traceback(None)  # that of this process says nothing, and would keep its frames alive
            if kind == "stop":
                if isinstance(value, Exception):
                    logger.warning("%s failed while it was stopped: %s", process.trial, value)
                self._leaving.pop(process.trial.trial_id, None)
                self._left(process, force=isinstance(value, Exception))
            elif kind == "restart" and isinstance(value, str) and value == NOT_RESET:
                self._replace(process)
            elif kind == "saved" or not process.leaving:
                events.append(("step" if kind == "restart" else kind, process.trial, value))
        return events

    def overdue_in(self) -> float | None:
        """Seconds until a process that was told to stop is killed; None when there is none."""
        deadlines = [process.deadline for process in self._leaving.values() if process.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def end_overdue(self) -> None:
        """Kills the processes that were told to stop too long ago."""
        if not self._leaving:
            return
        now = time.monotonic()
        for trial_id, process in list(self._leaving.items()):
            if process.deadline is not None and now >= process.deadline:
                logger.warning(
                    "%s did not stop within %g s (TRIREME_TUNE_STOP_GRACE_S); its process is killed",
                    process.trial,
                    self._grace,
                )
                del self._leaving[trial_id]
                self._end(process, force=True)

    def end_all(self) -> None:
        """Ends all processes. Those that still run are told to stop, and killed when they do not soon."""
        for process in list(self._running.values()):
            self.leave(process.trial)
        deadline = time.monotonic() + min(self._grace, _END_GRACE_S)
        try:
            while self._leaving and (left := deadline - time.monotonic()) > 0:
                self.wait(left)
        finally:
            for process in self._leaving.values():
                self._end(process, force=True)
            self._leaving.clear()
        while self._idle:
            self._end(self._idle.pop(), force=False)
        self._trainable = None

    # Parts.

    def _call(self, process: Process, kind: str, method: str, *args: Any) -> None:
        ref = self._backend.call(process.handle, method, *args)
        self._calls[ref] = (kind, process)
        process.calls.add(ref)

    def _left(self, process: Process, force: bool = False) -> None:
        if self._experiment.reuse_actors and not force:
            process.deadline = None
            self._idle.append(process)
        else:
            self._end(process, force)

    def _replace(self, process: Process) -> None:
        """The class cannot take up another trial, so the trial gets a process of its own."""
        trial = process.trial
        del self._running[trial.trial_id]
        self._end(process, force=False)
        self.start(trial, process.begin)

    def _end(self, process: Process, force: bool) -> None:
        for ref in process.calls:
            self._calls.pop(ref, None)
        process.calls.clear()
        self._hold(process.request, -1)
        self._backend.end(process.handle, force)

    def _info(self, trial: Trial, begin: InStore | None) -> tuple[TrialInfo, Any]:
        experiment = self._experiment
        saved = trial.checkpoints.latest
        info = TrialInfo(
            experiment_name=experiment.name,
            storage_path=experiment.storage_path,
            trial_id=trial.trial_id,
            trial_name=str(trial),
            trial_dir=trial.path,
            resources=trial.placement_group_factory,
            next_checkpoint=trial.checkpoints.next_index,
            checkpoint_frequency=experiment.checkpoint.checkpoint_frequency,
            in_object_store=experiment.scheduler.checkpoints_in_object_store,
            change_directory=experiment.change_directory,
            log_to_file=experiment.log_to_file,
            driver_directory=self._directory,
        )
        if begin is not None:
            info.iteration, info.time_total_s = begin.iteration, begin.time_total_s
            return info, begin.ref
        if saved is not None:
            info.iteration, info.time_total_s = saved.iteration, saved.time_total_s
            return info, os.path.join(trial.path, saved.folder)
        return info, None
