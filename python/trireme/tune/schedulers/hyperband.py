"""HyperBand (Li et al., Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization, 2018)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trireme.tune.schedulers.trial_scheduler import TrialScheduler, time_of

if TYPE_CHECKING:
    from trireme.tune.execution.tune_controller import TuneController
    from trireme.tune.experiment.trial import Trial


class HyperBandScheduler(TrialScheduler):
    """Brackets of trials, each halved successively: trials wait at a milestone, paused, until their bracket is there.

    Bracket `s` begins with ``ceil((s_max + 1) / (s + 1) * reduction_factor ** s)`` trials of ``max_t *
    reduction_factor ** -s`` each. Brackets are filled from the most aggressive one (``s_max``) to ``s = 0``, then
    again. Trials must save checkpoints: one that is paused goes on from its last, or from the start.

    Parameters
    ----------
    time_attr
        Reported value that says how far a trial is.
    metric, mode
        What is judged.
    max_t
        Time at which a trial ends, in units of `time_attr`.
    reduction_factor
        One in so many goes on.
    stop_last_trials
        False: a trial that reached `max_t` may go on.
    """

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        max_t: int = 81,
        reduction_factor: float = 3,
        stop_last_trials: bool = True,
    ) -> None:
        super().__init__(metric, mode)
        if max_t < 1:
            raise ValueError(f"max_t is {max_t}; give a time of at least 1")
        if reduction_factor <= 1:
            raise ValueError(f"reduction_factor is {reduction_factor}; give one above 1")
        self._time_attr, self._max_t, self._eta, self._stop_last = time_attr, max_t, reduction_factor, stop_last_trials
        self._s_max = int(math.log(max_t) / math.log(reduction_factor) + 1e-9)
        self._brackets: list[Bracket] = []
        self._bracket_of: dict[str, int] = {}
        self._resumed: list[str] = []  # trials that won their round, in the order in which they go on
        self._num_stopped = 0

    def on_trial_add(self, controller: TuneController, trial: Trial) -> None:
        if trial.trial_id in self._bracket_of:
            return
        if not self._brackets or self._brackets[-1].full:
            s = self._s_max - len(self._brackets) % (self._s_max + 1)
            size = math.ceil((self._s_max + 1) / (s + 1) * self._eta**s)
            self._brackets.append(Bracket(size, self._max_t * self._eta**-s, self._max_t, self._eta))
        self._brackets[-1].add(trial.trial_id)
        self._bracket_of[trial.trial_id] = len(self._brackets) - 1

    def on_trial_result(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> str:
        bracket = self._brackets[self._bracket_of[trial.trial_id]]
        if trial.trial_id in self._resumed:
            self._resumed.remove(trial.trial_id)
        time = time_of(result, self._time_attr)
        if time >= self._max_t:
            if not self._stop_last:
                return self.CONTINUE
            bracket.leave(trial.trial_id)
            self._advance(controller)
            return self.STOP
        if time < bracket.milestone:
            return self.CONTINUE
        bracket.arrived[trial.trial_id] = self.score(result)
        won, lost = self._halve(controller, bracket)
        for other in lost:
            if other != trial.trial_id:
                controller.stop_trial(controller.trial(other))
        self._num_stopped += len(lost)
        if trial.trial_id in lost:
            self._resumed += won
            return self.STOP
        if trial.trial_id in won:  # goes on without a pause
            self._resumed += [other for other in won if other != trial.trial_id]
            return self.CONTINUE
        return self.PAUSE

    def _halve(self, controller: TuneController, bracket: Bracket) -> tuple[list[str], list[str]]:
        if not (bracket.full or controller.search_ended) or not bracket.all_arrived():
            return [], []
        return bracket.halve()

    def _advance(self, controller: TuneController) -> None:
        """Halves the brackets that wait for nobody any more."""
        for bracket in self._brackets:
            won, lost = self._halve(controller, bracket)
            for trial_id in lost:
                controller.stop_trial(controller.trial(trial_id))
            self._num_stopped += len(lost)
            self._resumed += won

    def on_trial_complete(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> None:
        self._forget(controller, trial)

    def on_trial_error(self, controller: TuneController, trial: Trial) -> None:
        self._forget(controller, trial)

    def on_trial_remove(self, controller: TuneController, trial: Trial) -> None:
        self._forget(controller, trial)

    def _forget(self, controller: TuneController, trial: Trial) -> None:
        if trial.trial_id in self._bracket_of:
            self._brackets[self._bracket_of[trial.trial_id]].leave(trial.trial_id)
            self._advance(controller)

    def choose_trial_to_run(self, controller: TuneController) -> Trial | None:
        waiting = {trial.trial_id: trial for trial in controller.waiting_trials()}
        # Until they report again: one that won may still be leaving its process, and waits only after that.
        self._resumed = [trial_id for trial_id in self._resumed if controller.is_live(trial_id)]
        if (trial := self._next_resumed(waiting)) is not None:
            return trial
        for trial in waiting.values():
            # One that was started again after a failure, or never started.
            if trial.status == trial.PENDING:
                return trial
        if controller.search_ended:
            self._advance(controller)  # a bracket that will never be full
            return self._next_resumed(waiting)
        return None

    def _next_resumed(self, waiting: Mapping[str, Trial]) -> Trial | None:
        return next((waiting[trial_id] for trial_id in self._resumed if trial_id in waiting), None)

    def debug_string(self) -> str:
        lines = [f"Using HyperBand: {self._num_stopped} trials stopped, {len(self._brackets)} brackets"]
        for index, bracket in enumerate(self._brackets):
            lines.append(f"  {index}: {len(bracket.live)} of {bracket.size} trials, milestone {bracket.milestone:g}")
        return "\n".join(lines)


class Bracket:
    """Trials that are halved together. Scores: more is better."""

    def __init__(self, size: int, first: float, max_t: float, eta: float) -> None:
        self.size, self.max_t, self.eta = size, max_t, eta
        self.milestone = max(1.0, first)
        self.keep = size
        self.added = 0
        self.live: dict[str, None] = {}  # in the order of creation
        self.arrived: dict[str, float] = {}

    @property
    def full(self) -> bool:
        """Whether no more trials join."""
        return self.added >= self.size or self.keep < self.size

    def add(self, trial_id: str) -> None:
        """A trial joins."""
        self.added += 1
        self.live[trial_id] = None

    def leave(self, trial_id: str) -> None:
        """A trial ended."""
        self.live.pop(trial_id, None)
        self.arrived.pop(trial_id, None)

    def all_arrived(self) -> bool:
        """Whether all live trials are at the milestone."""
        return bool(self.live) and all(trial_id in self.arrived for trial_id in self.live)

    def halve(self) -> tuple[list[str], list[str]]:
        """Ends a round: who goes on (best first) and who does not."""
        self.keep = max(1, int(min(self.keep, self.added) / self.eta + 1e-9))
        ranked = sorted(self.live, key=lambda trial_id: -self.arrived[trial_id])
        won, lost = ranked[: self.keep], ranked[self.keep :]
        for trial_id in lost:
            self.leave(trial_id)
        self.arrived.clear()
        self.milestone = min(self.milestone * self.eta, self.max_t)
        return won, lost
