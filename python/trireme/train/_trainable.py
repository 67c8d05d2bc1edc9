"""A trainer as a trainable of Tune."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trireme.train._checkpoint import Checkpoint
from trireme.train._config import CheckpointConfig, FailureConfig, ScalingConfig

if TYPE_CHECKING:
    from trireme.train._placement import Placement
    from trireme.train._trainer import DataParallelTrainer

# Below the trial's folder: the run's own, from which Tune copies the checkpoints.
RUN_FOLDER = ".run"
_KEYS = ("train_loop_config", "scaling_config")


def trainable_of(trainer: DataParallelTrainer) -> Callable[[dict[str, Any]], None]:
    """See `DataParallelTrainer.as_trainable`. The datasets go into the object store here, once for all trials."""
    import trireme

    trainer.backend_config.check()
    if not trireme.is_initialized():
        trireme.init()
    plan = trainer._plan()
    plan.datasets = {
        name: data if isinstance(data, trireme.ObjectRef) or hasattr(data, "streaming_split") else trireme.put(data)
        for name, data in plan.datasets.items()
    }
    base_config, takes_config = trainer.train_loop_config, trainer._takes_config

    def resources(config: Mapping[str, Any]) -> ScalingConfig:
        return _scaling_of(plan.scaling, config)

    def run_trial(config: dict[str, Any]) -> None:
        unknown = sorted(set(config) - set(_KEYS))
        if unknown:
            raise ValueError(
                f"the search space of a trainer has the keys {' and '.join(_KEYS)}; found {', '.join(unknown)} "
                "(hyper-parameters go into train_loop_config)"
            )
        own = {**base_config, **config.get("train_loop_config", {})}
        if own and not takes_config:
            raise ValueError("the trial has a train_loop_config, but train_loop_per_worker takes no argument")
        _run_trial(replace(plan, config=own if takes_config else None, scaling=resources(config)))

    run_trial.__name__ = run_trial.__qualname__ = type(trainer).__name__
    run_trial._resources = resources
    return run_trial


def _scaling_of(base: ScalingConfig, config: Mapping[str, Any]) -> ScalingConfig:
    changed = config.get("scaling_config")
    if changed is None:
        return base
    return changed if isinstance(changed, ScalingConfig) else replace(base, **changed)


def _run_trial(plan: Any) -> None:
    from trireme import tune
    from trireme.train._controller import Controller

    context = tune.get_context()
    path = os.path.join(context.get_trial_dir(), RUN_FOLDER)
    # Tune says what the trial goes on from; an earlier attempt's folder has no say.
    shutil.rmtree(path, ignore_errors=True)
    run = replace(
        plan.run,
        name=context.get_experiment_name(),
        checkpoint_config=CheckpointConfig(num_to_keep=1),
        failure_config=FailureConfig(plan.run.failure_config.max_failures),
        callbacks=None,
    )
    plan = replace(plan, run=run, resume_from=tune.get_checkpoint() or plan.resume_from)

    def forward(metrics: dict[str, Any], checkpoint: Checkpoint | None) -> None:
        tune.report(metrics, checkpoint=checkpoint)

    try:
        Controller(plan, context.get_trial_name(), path, forward, _trial_placement(plan.scaling.max_workers)).run()
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _trial_placement(workers: int) -> Placement | None:
    """The bundles that the trial reserved for its workers; None when it reserved none."""
    from trireme.train._placement import Placement
    from trireme.util import get_current_placement_group

    group = get_current_placement_group()
    if group is None or group.bundle_count not in (workers, workers + 1):
        return None
    return Placement(group, group.bundle_count - workers, owned=False)
