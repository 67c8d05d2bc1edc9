"""How much each trial shall have: what `ResourceChangingScheduler` asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trireme.train._result import metric_of
from trireme.tune.error import TuneError
from trireme.tune.execution.placement_groups import PlacementGroupFactory

if TYPE_CHECKING:
    from trireme.tune.execution.tune_controller import TuneController
    from trireme.tune.experiment.trial import Trial
    from trireme.tune.schedulers.resource_changing_scheduler import ResourceChangingScheduler

#: What is given out; other resources stay as trials asked for them.
_GIVEN = ("CPU", "GPU")


class _Units(NamedTuple):
    """Of what is given out."""

    has: int  #: the trial has beyond what it asked for
    free: int  #: nobody has; below 0: are missing
    spare: int  #: there are beyond what the trials asked for


class DistributeResources:
    """Gives what the job has of CPUs and GPUs beyond what trials asked for to all that have not ended, in equal shares. No
    trial gets less than it asked for, and none in one bundle more than a node has.

    Parameters
    ----------
    add_bundles
        True: in further bundles, for the tasks and actors of a trial; False: in its only bundle, for the trial's own process.
    increase_by
        The unit in which it is given out, as ``{"CPU": 2, "GPU": 1}``. When None: 1 GPU if trials ask for GPUs, else 1 CPU;
        for `add_bundles`, what the last bundle has.
    increase_by_times
        At most so many units a trial, if 1 or more.
    reserve_resources
        What is not given out.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: Mapping[str, float] | None = None,
        increase_by_times: int = -1,
        reserve_resources: Mapping[str, float] | None = None,
    ) -> None:
        self.add_bundles, self.increase_by_times = add_bundles, increase_by_times
        self.increase_by, self.reserve_resources = dict(increase_by or {}), dict(reserve_resources or {})
        wrong = [name for name, amount in self.increase_by.items() if name not in _GIVEN or amount < 0]
        if wrong or (self.increase_by and not any(self.increase_by.values())):
            raise ValueError(f"increase_by is {self.increase_by}; give amounts of {' and '.join(_GIVEN)} above 0")

    def __call__(
        self, controller: TuneController, trial: Trial, result: Mapping[str, Any], scheduler: ResourceChangingScheduler
    ) -> PlacementGroupFactory | None:
        """What the trial shall have from now on; None: what it has."""
        base = scheduler.base_trial_resources
        if base is None or result["training_iteration"] < 1:
            return None
        if not self.add_bundles and len(base.bundles) > 1:
            raise ValueError(
                f"trials reserve {base}; {type(self).__name__} changes one bundle, or adds bundles with add_bundles=True"
            )
        unit = self._unit(base)
        live = controller.get_live_trials()
        total = {name: amount - self.reserve_resources.get(name, 0) for name, amount in controller.total_resources().items()}
        units = _Units(
            has=self._given(trial.placement_group_factory, base, unit),
            free=self._fits(total, [other.placement_group_factory for other in live], unit),
            spare=self._fits(total, [base] * len(live), unit),
        )
        share = max(0, self._share(trial, live, units, scheduler))
        if self.increase_by_times >= 1:
            share = min(share, self.increase_by_times)
        if not self.add_bundles:  # one process is on one node
            share = min(share, max((self._fits(node, [base], unit) for node in controller.node_resources()), default=share))
            share = max(0, share)
        return self._request(base, unit, share)

    def _share(self, trial: Trial, live: Sequence[Trial], units: _Units, scheduler: ResourceChangingScheduler) -> int:
        """The units for a trial."""
        share, left = divmod(max(0, units.spare), len(live))
        fair = share + (live.index(trial) < left)
        return min(fair, units.has + units.free)

    def _unit(self, base: PlacementGroupFactory) -> dict[str, float]:
        if self.increase_by:
            return {name: amount for name, amount in self.increase_by.items() if amount}
        if self.add_bundles:
            unit = {name: amount for name, amount in base.bundles[-1].items() if name in _GIVEN}
            if not unit:
                raise ValueError(f"the last bundle of {base} has neither CPUs nor GPUs; give increase_by")
            return unit
        return {"GPU": 1} if base.bundles[0].get("GPU") else {"CPU": 1}

    @staticmethod
    def _fits(total: Mapping[str, float], taken: Sequence[PlacementGroupFactory], unit: Mapping[str, float]) -> int:
        """How many units are left of `total`; below 0: are missing."""
        left = dict(total)
        for request in taken:
            for name, amount in request.required_resources.items():
                left[name] = left.get(name, 0) - amount
        return min(int((left.get(name, 0) + 1e-6) // amount) for name, amount in unit.items())

    def _given(self, request: PlacementGroupFactory, base: PlacementGroupFactory, unit: Mapping[str, float]) -> int:
        """The units that a trial has beyond what it asked for."""
        if self.add_bundles:
            return len(request.bundles) - len(base.bundles)
        name, amount = next(iter(unit.items()))
        return round((request.bundles[0].get(name, 0) - base.bundles[0].get(name, 0)) / amount)

    def _request(self, base: PlacementGroupFactory, unit: Mapping[str, float], units: int) -> PlacementGroupFactory:
        if self.add_bundles:
            return PlacementGroupFactory([*base.bundles, *[dict(unit)] * units], base.strategy)
        bundle = dict(base.bundles[0])
        for name, amount in unit.items():
            bundle[name] = bundle.get(name, 0) + units * amount
        return PlacementGroupFactory([bundle], base.strategy)


class DistributeResourcesToTopJob(DistributeResources):
    """Gives all that is free to the trial that is best by its last report. Those that were best before keep what they have.

    Parameters
    ----------
    metric, mode
        What is best; None: as `TuneConfig` says.

    The others: as for `DistributeResources`.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: Mapping[str, float] | None = None,
        increase_by_times: int = -1,
        reserve_resources: Mapping[str, float] | None = None,
        metric: str | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__(add_bundles, increase_by, increase_by_times, reserve_resources)
        if mode not in (None, "max", "min"):
            raise ValueError(f"mode is {mode!r}; give 'max' or 'min'")
        self.metric, self.mode = metric, mode

    def _share(self, trial: Trial, live: Sequence[Trial], units: _Units, scheduler: ResourceChangingScheduler) -> int:
        metric, mode = self.metric or scheduler.metric, self.mode or scheduler.mode
        if metric is None or mode is None:
            raise TuneError("DistributeResourcesToTopJob needs a metric and a mode; give them to it, or to TuneConfig")
        sign = 1 if mode == "max" else -1
        scores = {other: sign * metric_of(other.last_result, metric) for other in live if metric in other.last_result}
        best = max(scores, key=scores.__getitem__, default=None)
        return units.has + (units.free if trial is best else min(units.free, 0))
