"""ASHA: asynchronous successive halving (Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020).

In the form that stops trials: one that reaches a rung goes on only if it is among the best ``1 / reduction_factor``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trireme.tune.schedulers.trial_scheduler import TrialScheduler, time_of
from trireme.tune.search.sample import generator

if TYPE_CHECKING:
    from trireme.tune.execution.tune_controller import TuneController
    from trireme.tune.experiment.trial import Trial


class AsyncHyperBandScheduler(TrialScheduler):
    """ASHA. A trial at a rung is compared with all that reached the rung before; nobody waits for anybody.

    Parameters
    ----------
    time_attr
        Reported value that says how far a trial is; must grow.
    metric, mode
        What is judged.
    max_t
        Trials end here, in units of `time_attr`.
    grace_period
        The first rung: no trial is stopped before.
    reduction_factor
        Rungs are this factor apart, and one in so many goes on.
    brackets
        Number of brackets; bracket `s` leaves out the first `s` rungs. Trials join them at random, in proportion to
        the exponential of their numbers of rungs.
    stop_last_trials
        False: a trial that reached `max_t` may go on.
    seed
        Of the choice of brackets; None takes one from NumPy's global state.
    """

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        max_t: int = 100,
        grace_period: int = 1,
        reduction_factor: float = 4,
        brackets: int = 1,
        stop_last_trials: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(metric, mode)
        if max_t <= 0:
            raise ValueError(f"max_t is {max_t}; give a positive time")
        if not 0 < grace_period <= max_t:
            raise ValueError(f"grace_period is {grace_period}; it must lie between 0 and max_t={max_t}")
        if reduction_factor <= 1:
            raise ValueError(f"reduction_factor is {reduction_factor}; give one above 1")
        if brackets < 1:
            raise ValueError(f"brackets is {brackets}; there is at least 1")
        self._time_attr, self._max_t, self._stop_last = time_attr, max_t, stop_last_trials
        self._brackets = [Bracket(grace_period, max_t, reduction_factor, s) for s in range(brackets)]
        self._bracket_of: dict[str, int] = {}
        self._rng = generator(seed)
        self._num_stopped = 0

    def on_trial_add(self, controller: TuneController, trial: Trial) -> None:
        if trial.trial_id in self._bracket_of:
            return
        if len(self._brackets) == 1:
            self._bracket_of[trial.trial_id] = 0
            return
        sizes = np.array([len(bracket.rungs) for bracket in self._brackets], dtype=float)
        weights = np.exp(sizes - sizes.max())
        self._bracket_of[trial.trial_id] = int(self._rng.choice(len(sizes), p=weights / weights.sum()))

    def on_trial_result(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> str:
        time = time_of(result, self._time_attr)
        go_on = not (self._stop_last and time >= self._max_t)
        if go_on:
            go_on = self._brackets[self._bracket_of[trial.trial_id]].on_result(trial.trial_id, time, self.score(result))
        self._num_stopped += not go_on
        return self.CONTINUE if go_on else self.STOP

    def on_trial_complete(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> None:
        if result:
            self._brackets[self._bracket_of[trial.trial_id]].on_result(
                trial.trial_id, time_of(result, self._time_attr), self.score(result)
            )

    def replay_result(self, trial: Trial, result: Mapping[str, Any]) -> None:
        self.on_trial_add(None, trial)  # type: ignore[arg-type]
        self._brackets[self._bracket_of[trial.trial_id]].on_result(
            trial.trial_id, time_of(result, self._time_attr), self.score(result)
        )

    def debug_string(self) -> str:
        lines = [f"Using AsyncHyperBand: {self._num_stopped} trials stopped"]
        return "\n".join(lines + [bracket.debug_string() for bracket in self._brackets])


class Bracket:
    """The rungs of one bracket, and who reached them with what score (more is better)."""

    def __init__(self, min_t: float, max_t: float, factor: float, skipped: int) -> None:
        self.factor = factor
        count = int(math.log(max_t / min_t) / math.log(factor) + 1e-9) - skipped + 1
        # Highest first: a report counts for the highest rung that it reaches.
        self.rungs: list[tuple[float, dict[str, float]]] = [
            (min_t * factor ** (k + skipped), {}) for k in reversed(range(count))
        ]

    def on_result(self, trial_id: str, time: float, score: float) -> bool:
        """Records a report; False when it is not among the best of its rung."""
        for milestone, recorded in self.rungs:
            if time < milestone:
                continue
            if trial_id in recorded:
                return True
            cutoff = self.cutoff(recorded)
            recorded[trial_id] = score
            return cutoff is None or not score < cutoff
        return True

    def cutoff(self, recorded: Mapping[str, float]) -> float | None:
        """The score at which the best ``1 / factor`` of a rung begin; None for a rung without any."""
        scores = [score for score in recorded.values() if not math.isnan(score)]
        return float(np.percentile(scores, (1 - 1 / self.factor) * 100)) if scores else None

    def debug_string(self) -> str:
        """Milestones and cutoffs."""
        parts = [
            f"iter {milestone:g}: {'none' if (cut := self.cutoff(got)) is None else f'{cut:.4g}'}"
            for milestone, got in self.rungs
        ]
        return "Bracket: " + " | ".join(parts)


ASHAScheduler = AsyncHyperBandScheduler
