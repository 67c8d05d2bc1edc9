"""From what a user gives to a search that is fully defined."""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Mapping
from typing import Any

from trireme.train._config import CheckpointConfig, FailureConfig, RunConfig
from trireme.tune.error import TuneError
from trireme.tune.execution.experiment import Experiment
from trireme.tune.logger import DEFAULT_LOGGERS
from trireme.tune.progress.reporter import default_reporter
from trireme.tune.schedulers.create import create_scheduler
from trireme.tune.schedulers.trial_scheduler import FIFOScheduler
from trireme.tune.search.basic_variant import BasicVariantGenerator
from trireme.tune.search.create import create_searcher
from trireme.tune.search.sample import Domain
from trireme.tune.search.variant_generator import find_unresolved
from trireme.tune.stopper.stopper import make_stopper
from trireme.tune.trainable.util import name_of, resolve
from trireme.tune.tune_config import TuneConfig


def experiment_name(trainable_name: str) -> str:
    """A name for a search that has none."""
    return f"{trainable_name}_{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}_{uuid.uuid4().hex[:4]}"


def make_experiment(
    trainable: Any, space: Mapping[str, Any], tune_config: TuneConfig, run_config: RunConfig, name: str
) -> Experiment:
    """Fills in the defaults and checks what belongs together.

    Raises
    ------
    TuneError, TypeError, ValueError
        Something does not fit; says what to change.
    """
    if not isinstance(space, Mapping):
        raise TypeError(f"param_space is a {type(space).__name__}; give a dict")
    storage = str(run_config.storage_path)
    trainable_name = name_of(trainable) if not isinstance(trainable, str) else trainable
    resolved = resolve(trainable)
    space = _plain(space)
    searcher = tune_config.search_alg or BasicVariantGenerator()
    if isinstance(searcher, str):
        searcher = create_searcher(searcher)
    scheduler = tune_config.scheduler or FIFOScheduler()
    if isinstance(scheduler, str):
        scheduler = create_scheduler(scheduler)
    metric, mode = tune_config.metric, tune_config.mode
    if not searcher.set_search_properties(metric, mode, space, num_samples=tune_config.num_samples) and (
        find_unresolved(space) != ([], [])
    ):
        raise TuneError(
            f"{type(searcher).__name__} has a search space of its own, so param_space must hold plain values only"
        )
    if not scheduler.set_search_properties(metric, mode):
        raise TuneError(
            f"TuneConfig asks for {metric!r} ({mode}), but the scheduler was made for {scheduler.metric!r} "
            f"({scheduler.mode}); give metric and mode to one of them"
        )
    if scheduler.needs_metric and (scheduler.metric is None or scheduler.mode is None):
        raise TuneError(f"{type(scheduler).__name__} needs a metric and a mode; give them to TuneConfig")
    verbose = run_config.verbose if run_config.verbose is not None else 1
    reporter = run_config.progress_reporter
    if reporter is None and verbose > 0:
        reporter = default_reporter(print_intermediate_tables=None)
    if reporter is not None:
        reporter.setup(title=name, metric=metric or scheduler.metric, mode=mode or scheduler.mode)
    callbacks = list(run_config.callbacks or ())
    if os.environ.get("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS") != "1":
        callbacks += [logger() for logger in DEFAULT_LOGGERS if not any(isinstance(c, logger) for c in callbacks)]
    change_directory = os.environ.get("RAY_CHDIR_TO_TRIAL_DIR", "1") != "0"
    if run_config.sync_config is not None and run_config.sync_config.sync_artifacts:
        if not change_directory:
            raise ValueError("SyncConfig.sync_artifacts: with RAY_CHDIR_TO_TRIAL_DIR=0 trials have no directory of their own")
        if hasattr(trainable, "as_trainable"):
            raise ValueError("SyncConfig.sync_artifacts: a trainer's workers have none; put files into a reported checkpoint")
    return Experiment(
        trainable=resolved,
        trainable_name=trainable_name,
        space=space,
        name=name,
        storage_path=storage,
        path=os.path.join(storage, name),
        metric=metric,
        mode=mode,
        num_samples=tune_config.num_samples,
        searcher=searcher,
        scheduler=scheduler,
        stopper=make_stopper(run_config.stop, tune_config.time_budget_s),
        callbacks=callbacks,
        reporter=reporter,
        max_concurrent=tune_config.max_concurrent_trials or None,
        failure=run_config.failure_config or FailureConfig(),
        checkpoint=_checkpoint_config(run_config.checkpoint_config, resolved),
        reuse_actors=tune_config.reuse_actors,
        trial_name_creator=tune_config.trial_name_creator,
        trial_dirname_creator=tune_config.trial_dirname_creator,
        log_to_file=_log_files(run_config.log_to_file),
        runtime_env=run_config.worker_runtime_env,
        change_directory=change_directory,
        strict_metric=os.environ.get("TUNE_DISABLE_STRICT_METRIC_CHECKING") != "1",
    )


def _plain(space: Mapping[str, Any]) -> dict[str, Any]:
    """The space as a dict; configuration objects such as a ScalingConfig stay as they are."""
    return {
        key: _plain(value) if isinstance(value, dict) and not isinstance(value, Domain) else value
        for key, value in space.items()
    }


def _checkpoint_config(config: CheckpointConfig | None, trainable: Any) -> CheckpointConfig:
    config = config or CheckpointConfig()
    if not isinstance(trainable, type):
        for name in ("checkpoint_frequency", "checkpoint_at_end"):
            if getattr(config, name):
                raise ValueError(
                    f"CheckpointConfig.{name} is for class trainables; a function decides itself: "
                    "tune.report(metrics, checkpoint=...)"
                )
    return config


def _log_files(option: Any) -> tuple[str, str] | None:
    if not option:
        return None
    if option is True:
        return "stdout", "stderr"
    if isinstance(option, str):
        return option, option
    if isinstance(option, (tuple, list)) and len(option) == 2:
        return str(option[0]), str(option[1])
    raise ValueError(f"RunConfig.log_to_file is {option!r}; give True, one file name, or two (stdout, stderr)")
