"""What is searched, as one object, for `tune.run` and `tune.run_experiments`."""

from __future__ import annotations

import copy
import datetime
import os
from collections.abc import Callable, Mapping
from typing import Any

from trireme.train._config import CheckpointConfig, RunConfig
from trireme.tune.error import TuneError
from trireme.tune.stopper.stopper import Stopper, make_stopper
from trireme.tune.trainable.util import name_of, resolve


class Experiment:
    """A search: what is run, over which space, and how often.

    Parameters
    ----------
    name
        Of its folder; None: one is made up.
    run
        A function of the configuration, a `Trainable` class, a trainer, or a registered name.
    stop, time_budget_s
        As `RunConfig.stop` and `TuneConfig.time_budget_s`.
    config
        The search space.
    resources_per_trial
        As for `with_resources`.
    num_samples, trial_name_creator, trial_dirname_creator
        As in `TuneConfig`.
    storage_path, checkpoint_config, log_to_file
        As in `RunConfig`.
    max_failures
        As in `FailureConfig`.

    Errors: TypeError for what is no trainable, ValueError for options that do not fit.
    """

    def __init__(
        self,
        name: str | None,
        run: Any,
        *,
        stop: Any = None,
        time_budget_s: float | datetime.timedelta | None = None,
        config: Mapping[str, Any] | None = None,
        resources_per_trial: Any = None,
        num_samples: int = 1,
        storage_path: str | None = None,
        checkpoint_config: CheckpointConfig | Mapping[str, Any] | None = None,
        trial_name_creator: Callable[[Any], str] | None = None,
        trial_dirname_creator: Callable[[Any], str] | None = None,
        log_to_file: bool | str | tuple[str, str] = False,
        max_failures: int = 0,
    ) -> None:
        from trireme.tune.setup import experiment_name

        resolve(run)
        if isinstance(checkpoint_config, Mapping):
            checkpoint_config = CheckpointConfig(**checkpoint_config)
        self.run_identifier: str = run if isinstance(run, str) else name_of(run)
        self.name = name or experiment_name(self.run_identifier)
        self._stopper = make_stopper(stop, time_budget_s)
        self.spec: dict[str, Any] = {
            "run": run,
            "stop": stop,
            "time_budget_s": time_budget_s,
            "config": dict(config or {}),
            "resources_per_trial": resources_per_trial,
            "num_samples": num_samples,
            "storage_path": str(RunConfig(storage_path=storage_path).storage_path),
            "checkpoint_config": checkpoint_config,
            "trial_name_creator": trial_name_creator,
            "trial_dirname_creator": trial_dirname_creator,
            "log_to_file": log_to_file,
            "max_failures": max_failures,
        }

    @classmethod
    def from_json(cls, name: str, spec: Mapping[str, Any]) -> Experiment:
        """An experiment from a dict of the arguments.

        Raises
        ------
        TuneError
            It has no ``run``, or what is no argument.
        """
        given = copy.copy(dict(spec))
        if "run" not in given:
            raise TuneError(f"the experiment {name!r} has no 'run': what is its trainable?")
        run = given.pop("run")
        if "env" in given:  # where Ray's files have it for RL
            given["config"] = {**given.get("config", {}), "env": given.pop("env")}
        try:
            return cls(name, run, **given)
        except TypeError as error:
            raise TuneError(f"the experiment {name!r} cannot be made of {given}: {error}") from None

    @property
    def stopper(self) -> Stopper:
        """What ends trials and the search."""
        return self._stopper

    @property
    def path(self) -> str:
        """Its folder."""
        return os.path.join(self.spec["storage_path"], self.name)

    local_path = path

    @property
    def public_spec(self) -> dict[str, Any]:
        """What searchers and reporters may want to know of it."""
        return {name: self.spec[name] for name in ("stop", "num_samples", "time_budget_s")}

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, {self.run_identifier})"


def experiments_of(given: Any) -> list[Experiment]:
    """The experiments in what `run_experiments` takes.

    Raises
    ------
    TuneError
        It is neither an experiment, a list of them, nor a dict of names to experiments or to dicts of their arguments.
    """
    if isinstance(given, Experiment):
        return [given]
    if isinstance(given, Mapping):
        return [one if isinstance(one, Experiment) else Experiment.from_json(name, one) for name, one in given.items()]
    if isinstance(given, (list, tuple)) and given and all(isinstance(one, Experiment) for one in given):
        return list(given)
    raise TuneError(f"{given!r} is no tune.Experiment, list of them, or dict of name to arguments")
