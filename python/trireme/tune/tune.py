"""`tune.run`, the older way to start a search."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trireme.train._config import CheckpointConfig, FailureConfig, RunConfig
from trireme.tune.analysis.experiment_analysis import ExperimentAnalysis
from trireme.tune.callback import Callback
from trireme.tune.error import TuneError
from trireme.tune.schedulers.trial_scheduler import TrialScheduler
from trireme.tune.search.searcher import Searcher
from trireme.tune.trainable.util import with_resources
from trireme.tune.tune_config import TuneConfig
from trireme.tune.tuner import Tuner


def run(
    run_or_experiment: Any,
    *,
    name: str | None = None,
    metric: str | None = None,
    mode: str | None = None,
    stop: Any = None,
    time_budget_s: float | datetime.timedelta | None = None,
    config: Mapping[str, Any] | None = None,
    resources_per_trial: Any = None,
    num_samples: int = 1,
    storage_path: str | None = None,
    search_alg: Searcher | str | None = None,
    scheduler: TrialScheduler | str | None = None,
    checkpoint_config: CheckpointConfig | None = None,
    verbose: int | None = None,
    progress_reporter: Any = None,
    log_to_file: bool | str | tuple[str, str] = False,
    trial_name_creator: Callable[[Any], str] | None = None,
    trial_dirname_creator: Callable[[Any], str] | None = None,
    fail_fast: bool | str = False,
    resume: bool | str = False,
    reuse_actors: bool = False,
    raise_on_failed_trial: bool = True,
    callbacks: Sequence[Callback] | None = None,
    max_concurrent_trials: int | None = None,
    max_failures: int = 0,
) -> ExperimentAnalysis:
    """Runs a search.

    Parameters
    ----------
    run_or_experiment
        The trainable.
    config
        The search space.
    resources_per_trial
        As for `with_resources`.
    resume
        True: go on with the search of that `name`; ``"ERRORED_ONLY"`` and ``"AUTO"`` (go on if there is one) as well.
    raise_on_failed_trial
        True: `TuneError` when a trial failed.

    The other arguments are those of `TuneConfig`, `RunConfig`, `FailureConfig`.

    Returns
    -------
    ExperimentAnalysis
    """
    trainable = (
        with_resources(run_or_experiment, resources_per_trial) if resources_per_trial is not None else run_or_experiment
    )
    run_config = RunConfig(
        name=name,
        storage_path=storage_path,
        stop=stop,
        verbose=verbose,
        progress_reporter=progress_reporter,
        log_to_file=log_to_file,
        callbacks=callbacks,
        checkpoint_config=checkpoint_config,
        failure_config=FailureConfig(max_failures=max_failures, fail_fast=fail_fast),
    )  # type: ignore[arg-type]
    tune_config = TuneConfig(
        metric=metric,
        mode=mode,
        search_alg=search_alg,
        scheduler=scheduler,
        num_samples=num_samples,  # type: ignore[arg-type]
        max_concurrent_trials=max_concurrent_trials,
        time_budget_s=time_budget_s,
        reuse_actors=reuse_actors,
        trial_name_creator=trial_name_creator,
        trial_dirname_creator=trial_dirname_creator,
    )
    tuner = _resumed(trainable, run_config, config, resume) or Tuner(
        trainable, param_space=config, tune_config=tune_config, run_config=run_config
    )
    grid = tuner.fit()
    failed = [trial for trial in grid._trials if trial.error is not None]
    if failed and raise_on_failed_trial:
        raise TuneError(
            f"{len(failed)} trial(s) failed: {', '.join(map(str, failed))}; the first with: {failed[0].error}"
        )
    return ExperimentAnalysis(grid.experiment_path, trials=grid._trials, default_metric=metric, default_mode=mode)


def _resumed(
    trainable: Any, run_config: RunConfig, config: Mapping[str, Any] | None, resume: bool | str
) -> Tuner | None:
    if not resume:
        return None
    options = {
        True: {},
        "AUTO": {},
        "ERRORED_ONLY": {"resume_unfinished": False, "resume_errored": True},
        "AUTO+ERRORED": {"resume_errored": True},
    }
    if resume not in options:
        raise ValueError(f"resume is {resume!r}; give True, 'AUTO', 'AUTO+ERRORED' or 'ERRORED_ONLY'")
    if run_config.name is None:
        raise ValueError("resume needs the name of the search")
    path = f"{run_config.storage_path}/{run_config.name}"
    if str(resume).startswith("AUTO") and not Tuner.can_restore(path):
        return None
    return Tuner.restore(path, trainable, param_space=config, **options[resume])
