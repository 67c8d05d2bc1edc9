"""Population based training (Jaderberg et al., Population Based Training of Neural Networks, 2017)."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trireme.tune.error import TuneError
from trireme.tune.schedulers.trial_scheduler import TrialScheduler
from trireme.tune.search.sample import Categorical, Domain, generator
from trireme.tune.search.variant_generator import copy_space

if TYPE_CHECKING:
    from trireme.tune.execution.tune_controller import TuneController
    from trireme.tune.experiment.trial import Trial


@dataclass
class _Member:
    """What is known of a trial of the population. Score: more is better."""

    score: float | None = None
    time: float = 0.0  # of the last report that counted
    perturbed: float = 0.0  # when it was last looked at
    checkpoint: Any = None  # of a trial of the upper quantile, in the object store


class PopulationBasedTraining(TrialScheduler):
    """Every `perturbation_interval`, trials of the lower quantile go on from the checkpoint and with the (changed)
    configuration of one of the upper quantile. Checkpoints travel through the object store, without a disk.

    Parameters
    ----------
    time_attr
        Reported value that says how far a trial is.
    metric, mode
        What is judged.
    perturbation_interval
        In units of `time_attr`. Function trainables should report checkpoints as often.
    burn_in_period
        Nobody is looked at before.
    hyperparam_mutations
        What is changed: name to a list of values, a domain, a function without arguments, or a dict of these.
    quantile_fraction
        Size of the upper and of the lower quantile, at most 0.5.
    resample_probability
        A value is drawn anew with this probability; else it is multiplied by one of `perturbation_factors`, or moves by
        one place in its list.
    perturbation_factors
        What numbers are multiplied by.
    custom_explore_fn
        Called with the changed configuration; returns the one to use.
    log_config
        True: each change is appended to ``pbt_global.txt`` in the experiment's folder; ``pbt_policy_<trial>.txt`` has those
        that a trial, and whom it went on from, came through, for `PopulationBasedTrainingReplay`.
    require_attrs
        False: reports without `time_attr` or metric are passed over.
    synch
        True: all trials wait for each other at each interval.
    seed
        Of all choices; None takes one from NumPy's global state.
    """

    checkpoints_in_object_store = True

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 60.0,
        burn_in_period: float = 0.0,
        hyperparam_mutations: Mapping[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        resample_probability: float = 0.25,
        perturbation_factors: tuple[float, float] = (1.2, 0.8),
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__(metric, mode)
        if not hyperparam_mutations and custom_explore_fn is None:
            raise TuneError(
                "PopulationBasedTraining needs hyperparam_mutations or custom_explore_fn: what may it change?"
            )
        if not 0 <= quantile_fraction <= 0.5:
            raise TuneError(f"quantile_fraction is {quantile_fraction}; it must lie between 0 and 0.5")
        if perturbation_interval <= 0:
            raise TuneError(f"perturbation_interval is {perturbation_interval}; give a positive time")
        self._mutations = dict(hyperparam_mutations or {})
        _check_mutations(self._mutations)
        self._time_attr, self._interval, self._burn_in = time_attr, perturbation_interval, burn_in_period
        self._fraction, self._resample = quantile_fraction, resample_probability
        self._factors, self._custom = tuple(perturbation_factors), custom_explore_fn
        self._log_config, self._require, self._synch = log_config, require_attrs, synch
        self._rng = generator(seed)
        self._members: dict[str, _Member] = {}
        self._next_sync = max(perturbation_interval, burn_in_period)
        self._num_exploits = 0

    def on_trial_add(self, controller: TuneController, trial: Trial) -> None:
        if trial.trial_id in self._members:
            return
        self._members[trial.trial_id] = _Member()
        missing = {key: how for key, how in self._mutations.items() if key not in trial.config}
        if missing:
            drawn = {key: _draw(how, self._rng) for key, how in missing.items()}
            trial.set_config({**trial.config, **drawn})

    def on_trial_result(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> str:
        if not self._require and (self._time_attr not in result or self._metric not in result):
            return self.CONTINUE
        from trireme.tune.schedulers.trial_scheduler import time_of

        time = time_of(result, self._time_attr)
        member = self._members[trial.trial_id]
        if time < self._burn_in or time - member.perturbed < self._interval:
            return self.CONTINUE
        member.score, member.time = self.score(result), time
        self.observe(trial, time, member.score)
        if self._synch:
            return self._sync(controller, trial, time)
        member.perturbed = time
        lower, upper = self._quantiles(controller)
        others_wait = any(other is not trial for other in controller.waiting_trials())
        self._keep(controller, trial, upper)
        if trial.trial_id in lower and self._exploit(controller, trial, upper):
            return self.NOOP
        return self.PAUSE if others_wait else self.CONTINUE

    def _sync(self, controller: TuneController, trial: Trial, time: float) -> str:
        live = controller.get_live_trials()
        if any(self._members[other.trial_id].time < self._next_sync for other in live if other is not trial):
            return self.PAUSE
        lower, upper = self._quantiles(controller)
        for other in live:
            self._members[other.trial_id].perturbed = time
            self._keep(controller, other, upper)
        changed = [other for other in live if other.trial_id in lower and self._exploit(controller, other, upper)]
        self._next_sync = max(self._next_sync + self._interval, *(self._members[other.trial_id].time for other in live))
        return self.NOOP if trial in changed else self.CONTINUE

    def _keep(self, controller: TuneController, trial: Trial, upper: Sequence[str]) -> None:
        member = self._members[trial.trial_id]
        member.checkpoint = controller.checkpoint_in_store(trial) if trial.trial_id in upper else None

    def _quantiles(self, controller: TuneController) -> tuple[list[str], list[str]]:
        scored = [
            (member.score, trial_id)
            for trial_id, member in self._members.items()
            if member.score is not None and not math.isnan(member.score) and controller.is_live(trial_id)
        ]
        ranked = [trial_id for _, trial_id in sorted(scored, key=lambda pair: pair[0])]
        if len(ranked) <= 1:
            return [], []
        count = min(math.ceil(len(ranked) * self._fraction), len(ranked) // 2)
        return (ranked[:count], ranked[-count:]) if count else ([], [])

    def _exploit(self, controller: TuneController, trial: Trial, upper: Sequence[str]) -> bool:
        """Has a trial go on as a changed copy of a good one; False when that one saved nothing yet."""
        donor = controller.trial(upper[int(self._rng.integers(len(upper)))])
        checkpoint = self._members[donor.trial_id].checkpoint
        if checkpoint is None:
            return False
        config, changes = self.changed(controller, trial, donor)
        if self._log_config:
            self._log(controller.experiment_path, trial, donor, checkpoint.iteration, config, changes)
        base_tag = trial.experiment_tag.split("@perturbed")[0]
        tag = ",".join(f"{key}={_short(config[key])}" for key in self._mutations if key in config)
        controller.exploit(trial, donor, checkpoint, config, f"{base_tag}@perturbed[{tag}]")
        me, other = self._members[trial.trial_id], self._members[donor.trial_id]
        me.perturbed, me.time = other.perturbed, other.time
        self._num_exploits += 1
        return True

    # What subclasses do another way.

    def observe(self, trial: Trial, time: float, score: float) -> None:
        """A trial has come to the end of an interval."""

    def changed(self, controller: TuneController, trial: Trial, donor: Trial) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """The configuration with which a trial goes on from another one's checkpoint, and what was done to it."""
        return explore(donor.config, self._mutations, self._resample, self._factors, self._custom, self._rng)

    def _log(
        self, folder: str, trial: Trial, donor: Trial, at: int, config: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> None:
        line = json.dumps(
            [
                trial.trial_id,
                donor.trial_id,
                trial.last_result.get("training_iteration", 0),
                at,
                donor.config,
                config,
                changes,
            ],
            default=str,
        )
        # How the donor came to where it is, is from now on how the trial did.
        policy, of_donor = f"pbt_policy_{trial.trial_id}.txt", os.path.join(folder, f"pbt_policy_{donor.trial_id}.txt")
        if os.path.exists(of_donor):
            shutil.copyfile(of_donor, os.path.join(folder, policy))
        elif os.path.exists(os.path.join(folder, policy)):
            os.remove(os.path.join(folder, policy))
        for name in ("pbt_global.txt", policy):
            with open(os.path.join(folder, name), "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def on_search_end(self) -> None:
        for member in self._members.values():
            member.checkpoint = None

    def choose_trial_to_run(self, controller: TuneController) -> Trial | None:
        waiting = controller.waiting_trials()
        if self._synch:
            waiting = [trial for trial in waiting if self._members[trial.trial_id].time < self._next_sync]
        # Whoever is furthest behind, so that a population larger than the machine takes turns.
        return min(waiting, key=lambda trial: self._members[trial.trial_id].time, default=None)

    def get_state(self) -> dict[str, Any]:
        members = {trial_id: _Member(m.score, m.time, m.perturbed) for trial_id, m in self._members.items()}
        return {"members": members, "rng": self._rng, "next_sync": self._next_sync, "num_exploits": self._num_exploits}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._members, self._rng = state["members"], state["rng"]
        self._next_sync, self._num_exploits = state["next_sync"], state["num_exploits"]

    def debug_string(self) -> str:
        return f"Using PopulationBasedTraining: {self._num_exploits} trials went on from a better one"


def explore(
    config: Mapping[str, Any],
    mutations: Mapping[str, Any],
    resample_probability: float,
    factors: Sequence[float],
    custom: Callable[[dict[str, Any]], dict[str, Any]] | None,
    rng: np.random.Generator,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A changed copy of a configuration, and what was done to each value.

    Numbers that are multiplied may leave the domain they were drawn from; whole numbers stay whole.
    """
    new, done = copy_space(dict(config)), {}
    for key, how in mutations.items():
        old = config[key]
        values = how.categories if isinstance(how, Categorical) else how
        if isinstance(how, Mapping):
            new[key], done[key] = explore(old, how, resample_probability, factors, None, rng)
        elif isinstance(values, (list, tuple)):
            if rng.random() < resample_probability or old not in values:
                new[key], done[key] = values[int(rng.integers(len(values)))], "resample"
            else:
                shift = -1 if rng.random() < 0.5 else 1
                new[key] = values[min(max(list(values).index(old) + shift, 0), len(values) - 1)]
                done[key] = f"shift {'left' if shift < 0 else 'right'}"
        else:
            if rng.random() < resample_probability:
                new[key], done[key] = _draw(how, rng), "resample"
            else:
                factor = factors[int(rng.integers(len(factors)))]
                new[key], done[key] = old * factor, f"* {factor}"
            if isinstance(old, int) and not isinstance(old, bool):
                new[key] = int(new[key])
    return customised(new, custom), done


def customised(config: dict[str, Any], custom: Callable[[dict[str, Any]], dict[str, Any]] | None) -> dict[str, Any]:
    """What the user's own function makes of a configuration.

    Raises
    ------
    TuneError
        It returned none.
    """
    if custom is None:
        return config
    changed = custom(config)
    if not isinstance(changed, dict):
        raise TuneError(f"custom_explore_fn returned {changed!r}; it must return the configuration to use")
    return changed


def _draw(how: Any, rng: np.random.Generator) -> Any:
    if isinstance(how, Domain):
        return how.sample(random_state=rng)
    if isinstance(how, Mapping):
        return {key: _draw(inner, rng) for key, inner in how.items()}
    if isinstance(how, (list, tuple)):
        return how[int(rng.integers(len(how)))]
    return how()


def _check_mutations(mutations: Mapping[str, Any]) -> None:
    for key, how in mutations.items():
        if isinstance(how, Mapping):
            if "grid_search" in how:
                raise TuneError(f"hyperparam_mutations[{key!r}] is a grid; give a list of values or a domain")
            _check_mutations(how)
        elif not isinstance(how, (list, tuple, Domain)) and not callable(how):
            raise TuneError(f"hyperparam_mutations[{key!r}] is {how!r}; give a list, a domain or a function")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
