"""Population based bandits (Parker-Holder et al., Provably Efficient Online Hyperparameter Optimization with
Population-Based Bandits, 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trireme.tune.error import TuneError
from trireme.tune.schedulers.pbt import PopulationBasedTraining, customised
from trireme.tune.search.sample import uniform
from trireme.tune.search.variant_generator import copy_space

if TYPE_CHECKING:
    from trireme.tune.execution.tune_controller import TuneController
    from trireme.tune.experiment.trial import Trial

Path = tuple[str, ...]

#: Of the latest intervals, so many are looked at; the time for it grows with their cube.
_INTERVALS_MAX = 200
#: Below this many, configurations are drawn at random.
_INTERVALS_MIN = 3


class PB2(PopulationBasedTraining):
    """Population based training whose new configurations are those of a bandit: a Gaussian process learns how much a trial's
    score rises in an interval, from the configuration, the score before and the time, and the configuration with the largest
    upper confidence bound is next. For few trials, where random changes find little.

    Parameters
    ----------
    time_attr, metric, mode, perturbation_interval, quantile_fraction, log_config, require_attrs, synch, seed
        As for `PopulationBasedTraining`.
    hyperparam_bounds
        What is changed: name to ``[min, max]``, or to a dict of these. A configuration without one of these values gets one
        at random. Whole numbers stay whole.
    custom_explore_fn
        Called with the new configuration; returns the one to use.

    Errors: TuneError without bounds, or for bounds that are none.
    """

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 60.0,
        hyperparam_bounds: Mapping[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        seed: int | None = None,
    ) -> None:
        if not hyperparam_bounds:
            raise TuneError("PB2 needs hyperparam_bounds: which values may it change, from where to where?")
        self._bounds = dict(_bounds(hyperparam_bounds))
        super().__init__(
            time_attr=time_attr,
            metric=metric,
            mode=mode,
            perturbation_interval=perturbation_interval,
            hyperparam_mutations=_domains(hyperparam_bounds),
            quantile_fraction=quantile_fraction,
            resample_probability=0,
            custom_explore_fn=custom_explore_fn,
            log_config=log_config,
            require_attrs=require_attrs,
            synch=synch,
            seed=seed,
        )
        self._began: dict[str, tuple[float, float, list[float]]] = {}  # a trial's interval: time, score, configuration
        self._intervals: list[tuple[float, float, list[float], float]] = []  # the same, and how much the score rose

    def observe(self, trial: Trial, time: float, score: float) -> None:
        """A trial has come to the end of an interval."""
        values = self._values(trial.config)
        began = self._began.get(trial.trial_id)
        if began is not None and time > began[0] and np.isfinite([score, began[1]]).all():
            self._intervals.append((*began, (score - began[1]) / (time - began[0])))
            del self._intervals[:-_INTERVALS_MAX]
        self._began[trial.trial_id] = (time, score, values)

    def changed(self, controller: TuneController, trial: Trial, donor: Trial) -> tuple[dict[str, Any], Mapping[str, Any]]:
        time, score, values = self._began[donor.trial_id]
        live = {other.trial_id for other in controller.get_live_trials()} - {trial.trial_id}
        chosen = self._choose(time, score, [self._began[each] for each in sorted(live) if each in self._began])
        config, changes = copy_space(dict(donor.config)), {}
        for (path, (low, high)), share in zip(self._bounds.items(), chosen):
            inner = config
            for key in path[:-1]:
                inner = inner[key]
            old, new = inner[path[-1]], float(low + share * (high - low))
            whole = isinstance(old, int) and not isinstance(old, bool)
            inner[path[-1]] = round(new) if whole else new
            changes["/".join(path)] = "bandit" if len(self._intervals) >= _INTERVALS_MIN else "random"
        config = customised(config, self._custom)
        self._began[trial.trial_id] = (time, score, self._values(config))
        return config, changes

    def _choose(self, time: float, score: float, pending: list[tuple[float, float, list[float]]]) -> np.ndarray:
        """Of each value, where between its bounds it shall be: 0 to 1."""
        if len(self._intervals) < _INTERVALS_MIN:
            return self._rng.random(len(self._bounds))
        from trireme.tune.schedulers.gaussian_process import GaussianProcess, best_point

        times, before, values, gains = (np.array(column, float) for column in zip(*self._intervals))
        low, spread = before.min(), max(float(np.ptp(before)), 1e-12)

        def points(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
            return np.hstack([((scores - low) / spread)[:, None], values])

        deviation = float(gains.std())
        standard = (gains - gains.mean()) / (deviation if deviation > 0 else 1.0)
        process = GaussianProcess.fit(times / self._interval, points(before, values), standard)
        columns = [np.array(column, float) for column in zip(*pending)] or [np.zeros(0), np.zeros(0), np.zeros((0, 1))]
        others = columns[0] / self._interval, points(columns[1], columns[2]) if pending else np.zeros((0, 1))
        fixed = np.array([(score - low) / spread])
        return best_point(process, others, time / self._interval, fixed, len(self._bounds), self._rng)

    def _values(self, config: Mapping[str, Any]) -> list[float]:
        """A configuration's place in the box of the bounds."""
        found = []
        for path, (low, high) in self._bounds.items():
            value: Any = config
            for key in path:
                if key not in value:
                    raise TuneError(f"hyperparam_bounds names {'/'.join(path)!r}, which the configuration {config} has not")
                value = value[key]
            found.append((float(value) - low) / (high - low))
        return found

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "began": self._began, "intervals": self._intervals}

    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)
        self._began, self._intervals = state["began"], state["intervals"]

    def debug_string(self) -> str:
        return f"Using PB2: {self._num_exploits} trials went on from a better one, {len(self._intervals)} intervals known"


def _bounds(given: Mapping[str, Any], at: Path = ()) -> Iterator[tuple[Path, tuple[float, float]]]:
    for key, bounds in given.items():
        path = (*at, key)
        if isinstance(bounds, Mapping):
            yield from _bounds(bounds, path)
            continue
        good = isinstance(bounds, (list, tuple)) and len(bounds) == 2 and all(isinstance(b, (int, float)) for b in bounds)
        if not good or not bounds[0] < bounds[1]:
            raise TuneError(f"hyperparam_bounds[{'/'.join(path)!r}] is {bounds!r}; give [min, max]")
        yield path, (float(bounds[0]), float(bounds[1]))


def _domains(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _domains(one) if isinstance(one, Mapping) else uniform(*one) for key, one in given.items()}
