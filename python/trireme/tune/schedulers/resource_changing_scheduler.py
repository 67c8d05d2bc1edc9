"""Trials that get more resources, or fewer, while the search runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trireme.tune.execution.placement_groups import PlacementGroupFactory
from trireme.tune.schedulers.distribute_resources import DistributeResources, DistributeResourcesToTopJob
from trireme.tune.schedulers.trial_scheduler import FIFOScheduler, TrialScheduler

if TYPE_CHECKING:
    from trireme.tune.execution.tune_controller import TuneController
    from trireme.tune.experiment.trial import Trial

__all__ = ["DistributeResources", "DistributeResourcesToTopJob", "ResourceChangingScheduler"]

Allocation = Callable[..., "PlacementGroupFactory | Mapping[str, float] | None"]


class ResourceChangingScheduler(TrialScheduler):
    """Changes what trials reserve. A trial whose share has changed is paused and starts again with it, from what it has just
    saved; it sees its share in `tune.get_trial_resources()` or `Trainable.trial_resources`.

    Only trials that lose nothing by that are changed: class trainables, and functions at a report with a checkpoint. As long
    as trials are to come that have room, nobody gets more.

    Parameters
    ----------
    base_scheduler
        Decides about trials otherwise; None: all run to their ends.
    resources_allocation_function
        Called as ``f(controller, trial, result, scheduler)`` with each report after which a trial goes on; returns what it
        shall reserve, or None for no change. None: nothing changes.

    Attributes
    ----------
    base_trial_resources : PlacementGroupFactory | None
        What the first trial asked for.
    """

    changes_resources = True

    def __init__(
        self,
        base_scheduler: TrialScheduler | None = None,
        resources_allocation_function: Allocation | None = DistributeResources(),  # noqa: B008 - as Ray has it; it has no state
    ) -> None:
        super().__init__()
        self._base = base_scheduler or FIFOScheduler()
        self._allocate = resources_allocation_function
        self.base_trial_resources = None
        self._changed: set[str] = set()  # trials that wait to start again with what they got
        self._changes = 0

    @property
    def base_scheduler(self) -> TrialScheduler:
        """What decides about trials."""
        return self._base

    @property
    def checkpoints_in_object_store(self) -> bool:  # type: ignore[override]
        return self._base.checkpoints_in_object_store

    @property
    def metric(self) -> str | None:
        return self._base.metric

    @property
    def mode(self) -> str | None:
        return self._base.mode

    @property
    def needs_metric(self) -> bool:
        return self._base.needs_metric

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return self._base.set_search_properties(metric, mode, **spec)

    def on_trial_add(self, controller: TuneController, trial: Trial) -> None:
        if self.base_trial_resources is None:
            self.base_trial_resources = trial.placement_group_factory
        self._base.on_trial_add(controller, trial)

    def on_trial_result(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> str:
        decision = self._base.on_trial_result(controller, trial, result)
        # What is free goes to new trials first.
        if decision != self.CONTINUE or self._allocate is None or controller.new_trials_fit():
            return decision
        wanted = self._allocate(controller, trial, result, self)
        if wanted is None:
            return decision
        if not isinstance(wanted, PlacementGroupFactory):
            wanted = PlacementGroupFactory([wanted])
        if wanted == trial.placement_group_factory or not controller.is_saved(trial):
            return decision
        controller.change_resources(trial, wanted)
        self._changed.add(trial.trial_id)
        self._changes += 1
        return self.PAUSE

    def choose_trial_to_run(self, controller: TuneController) -> Trial | None:
        waiting = controller.waiting_trials()
        self._changed.intersection_update(trial.trial_id for trial in controller.get_live_trials())
        for trial in waiting:
            # Before all others: what it shall have was free, or its own.
            if trial.trial_id in self._changed:
                return trial
        return self._base.choose_trial_to_run(controller)

    def on_trial_start(self, trial: Trial) -> None:
        self._changed.discard(trial.trial_id)
        self._base.on_trial_start(trial)

    def on_trial_complete(self, controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> None:
        self._base.on_trial_complete(controller, trial, result)

    def on_trial_error(self, controller: TuneController, trial: Trial) -> None:
        self._base.on_trial_error(controller, trial)

    def on_trial_remove(self, controller: TuneController, trial: Trial) -> None:
        self._base.on_trial_remove(controller, trial)

    def on_search_end(self) -> None:
        self._base.on_search_end()

    def replay_result(self, trial: Trial, result: Mapping[str, Any]) -> None:
        self._base.replay_result(trial, result)

    def debug_string(self) -> str:
        return f"{self._base.debug_string()}; what trials reserve was changed {self._changes} times"

    def get_state(self) -> dict[str, Any]:
        return {"base": self._base.get_state(), "request": self.base_trial_resources, "changes": self._changes}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._base.set_state(state["base"])
        self.base_trial_resources, self._changes = state["request"], state["changes"]
