"""`tune.run` and `tune.run_experiments`, the older ways to start a search."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trireme.train._config import CheckpointConfig, FailureConfig, RunConfig, SyncConfig
from trireme.tune.analysis.experiment_analysis import ExperimentAnalysis
from trireme.tune.callback import Callback
from trireme.tune.error import TuneError
from trireme.tune.execution.room import Room, run_together
from trireme.tune.experiment.experiment import Experiment, experiments_of
from trireme.tune.experiment.trial import Trial
from trireme.tune.schedulers.trial_scheduler import TrialScheduler
from trireme.tune.search.searcher import Searcher
from trireme.tune.trainable.util import with_resources
from trireme.tune.tune_config import ResumeConfig, TuneConfig
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
    sync_config: SyncConfig | None = None,
    fail_fast: bool | str = False,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = False,
    raise_on_failed_trial: bool = True,
    callbacks: Sequence[Callback] | None = None,
    max_concurrent_trials: int | None = None,
    max_failures: int = 0,
) -> ExperimentAnalysis:
    """Runs a search, or several at the same time.

    Parameters
    ----------
    run_or_experiment
        The trainable; or an `Experiment` or a list of them, which then say what the arguments `name`, `stop`, `time_budget_s`,
        `config`, `resources_per_trial`, `num_samples`, `storage_path`, `checkpoint_config`, `log_to_file`, `max_failures` and
        those of names would.
    config
        The search space.
    resources_per_trial
        As for `with_resources`.
    resume
        True or ``"AUTO"``: go on with the search of that `name` if there is one. With ``"+ERRORED"`` or ``"+RESTART_ERRORED"``
        behind it, failed trials go on from their latest checkpoints, or start again; with ``"+ERRORED_ONLY"`` or
        ``"+RESTART_ERRORED_ONLY"``, only they.
    resume_config
        The same for each kind of trial, in place of `resume`.
    raise_on_failed_trial
        True: `TuneError` when a trial failed.

    The other arguments are those of `TuneConfig`, `RunConfig`, `FailureConfig`. Several searches have a copy of `search_alg` and
    of `scheduler` each, and share the reporter and the callbacks, which hear of the beginning and of the end of each search.

    Returns
    -------
    ExperimentAnalysis
        Of all trials.
    """
    if isinstance(run_or_experiment, (Experiment, list, tuple)):
        experiments = experiments_of(run_or_experiment)
    else:
        experiments = [
            Experiment(
                name,
                run_or_experiment,
                stop=stop,
                time_budget_s=time_budget_s,
                config=config,
                resources_per_trial=resources_per_trial,
                num_samples=num_samples,
                storage_path=storage_path,
                checkpoint_config=checkpoint_config,
                trial_name_creator=trial_name_creator,
                trial_dirname_creator=trial_dirname_creator,
                log_to_file=log_to_file,
                max_failures=max_failures,
            )
        ]
    paths = [experiment.path for experiment in experiments]
    if len(set(paths)) < len(paths):
        raise ValueError(f"experiments need folders of their own; these have {', '.join(paths)}")
    resume_config = resume_config or _resume_config(resume)
    if resume_config is not None and name is None and not isinstance(run_or_experiment, (Experiment, list, tuple)):
        raise ValueError("resume needs the name of the search")
    several = len(experiments) > 1
    tuners = []
    for experiment in experiments:
        tune_config = TuneConfig(
            metric=metric,
            mode=mode,  # type: ignore[arg-type]
            search_alg=copy.deepcopy(search_alg) if several else search_alg,
            scheduler=copy.deepcopy(scheduler) if several else scheduler,
            num_samples=experiment.spec["num_samples"],
            time_budget_s=experiment.spec["time_budget_s"],
            reuse_actors=reuse_actors,
            trial_name_creator=experiment.spec["trial_name_creator"],
            trial_dirname_creator=experiment.spec["trial_dirname_creator"],
        )
        run_config = RunConfig(
            name=experiment.name,
            storage_path=experiment.spec["storage_path"],
            stop=experiment.spec["stop"],
            verbose=verbose,
            progress_reporter=progress_reporter,
            log_to_file=experiment.spec["log_to_file"],
            callbacks=callbacks,  # type: ignore[arg-type]
            checkpoint_config=experiment.spec["checkpoint_config"],
            sync_config=sync_config,
            failure_config=FailureConfig(max_failures=experiment.spec["max_failures"], fail_fast=fail_fast),
        )
        tuners.append(_tuner(experiment, tune_config, run_config, resume_config))
    room = Room(max_concurrent_trials or None)
    searches = [tuner._make(room) for tuner in tuners]
    run_together(searches)
    grids = [search.results() for search in searches]
    trials = [trial for grid in grids for trial in grid._trials]
    failed = [trial for trial in trials if trial.error is not None]
    if failed and raise_on_failed_trial:
        raise TuneError(
            f"{len(failed)} trial(s) failed: {', '.join(map(str, failed))}; the first with: {failed[0].error}"
        )
    return ExperimentAnalysis(grids[0].experiment_path, trials=trials, default_metric=metric, default_mode=mode)


def run_experiments(
    experiments: Any,
    scheduler: TrialScheduler | str | None = None,
    verbose: int | None = None,
    progress_reporter: Any = None,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = False,
    raise_on_failed_trial: bool = True,
    concurrent: bool = True,
    callbacks: Sequence[Callback] | None = None,
) -> list[Trial]:
    """Runs several searches.

    Parameters
    ----------
    experiments
        An `Experiment`, a list of them, or a dict of name to `Experiment` or to a dict of its arguments.
    concurrent
        False: one after the other.

    The other arguments are those of `run`.

    Returns
    -------
    list of Trial
        Of all searches.
    """
    listed = experiments_of(experiments)
    trials: list[Trial] = []
    for part in [listed] if concurrent else [[one] for one in listed]:
        trials += run(
            part,
            scheduler=scheduler if concurrent else copy.deepcopy(scheduler),
            verbose=verbose,
            progress_reporter=progress_reporter,
            resume=resume,
            resume_config=resume_config,
            reuse_actors=reuse_actors,
            raise_on_failed_trial=raise_on_failed_trial,
            callbacks=callbacks,
        ).trials
    return trials


def _tuner(
    experiment: Experiment, tune_config: TuneConfig, run_config: RunConfig, resume_config: ResumeConfig | None
) -> Tuner:
    trainable, config = experiment.spec["run"], experiment.spec["config"]
    resources = experiment.spec["resources_per_trial"]
    if resources is not None:
        from trireme.tune.registry import get_trainable_cls

        trainable = with_resources(get_trainable_cls(trainable) if isinstance(trainable, str) else trainable, resources)
    if resume_config is not None and Tuner.can_restore(experiment.path):
        return Tuner.restore(experiment.path, trainable, param_space=config or None, _resume_config=resume_config)
    return Tuner(trainable, param_space=config, tune_config=tune_config, run_config=run_config)


def _resume_config(resume: bool | str | None) -> ResumeConfig | None:
    if not resume:
        return None
    first, *options = ["AUTO"] if resume is True else str(resume).split("+")
    if first in ("ERRORED_ONLY", "RESTART_ERRORED_ONLY"):
        first, options = "AUTO", [first]
    known = {
        "ERRORED": ResumeConfig(errored="resume"),
        "RESTART_ERRORED": ResumeConfig(errored="restart"),
        "ERRORED_ONLY": ResumeConfig(unfinished="skip", errored="resume"),
        "RESTART_ERRORED_ONLY": ResumeConfig(unfinished="skip", errored="restart"),
    }
    if first not in ("AUTO", "True") or len(options) > 1 or any(option not in known for option in options):
        raise ValueError(f"resume is {resume!r}; give True or 'AUTO', with nothing or one of +{', +'.join(known)} behind it")
    return known[options[0]] if options else ResumeConfig()
