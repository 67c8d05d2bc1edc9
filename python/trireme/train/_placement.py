"""Where the workers of a start go."""

from __future__ import annotations

import os
from typing import Any

import trireme
from trireme.train._config import ScalingConfig


class Placement:
    """Where the workers of a start go: bundles of a placement group.

    Parameters
    ----------
    group
        The placement group.
    first_bundle
        The bundle of worker 0.
    owned
        Removed by `release`; False when the group is that of a Tune trial.
    """

    def __init__(self, group: Any, first_bundle: int, owned: bool) -> None:
        self._group, self._first_bundle, self._owned = group, first_bundle, owned

    def strategy(self, index: int) -> Any:
        """For worker `index`, in the order of creation."""
        from trireme.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        return PlacementGroupSchedulingStrategy(
            placement_group=self._group, placement_group_bundle_index=self._first_bundle + index
        )

    def release(self) -> None:
        """Gives the resources back when they are the run's own."""
        if self._owned:
            from trireme.util import remove_placement_group

            self._owned = False
            remove_placement_group(self._group)


def placement_timeout_s() -> float:
    """How long an elastic run waits for the workers above its minimum: TRIREME_TRAIN_PLACEMENT_TIMEOUT_S, or 10."""
    return float(os.environ.get("TRIREME_TRAIN_PLACEMENT_TIMEOUT_S", "10"))


def reserve(scaling: ScalingConfig) -> tuple[int, Placement]:
    """Reserves room for as many workers as there is for, between the minimum and the maximum.

    The minimum is waited for; each number above it only for `placement_timeout_s`, all of them together.

    Raises
    ------
    RayError
        The minimum can never be placed; says what was asked and what exists.
    """
    from trireme.util import placement_group, remove_placement_group

    bundle = scaling.worker_resources() or {"CPU": 0}
    timeout = placement_timeout_s()
    for count in range(_most(scaling, bundle), scaling.min_workers - 1, -1):
        last = count == scaling.min_workers
        group = None
        try:
            group = placement_group(
                [dict(bundle)] * count,
                strategy=scaling.placement_strategy,
                bundle_label_selector=scaling.worker_labels(count),
            )
            ready, _ = trireme.wait([group.ready()], timeout=None if last else timeout)
            if ready:
                trireme.get(ready[0])
                return count, Placement(group, 0, owned=True)
        except trireme.exceptions.RayError:
            if last:
                raise
        except BaseException:
            if group is not None:
                remove_placement_group(group)
            raise
        if group is not None:
            remove_placement_group(group)
        timeout = min(timeout, 1.0)
    raise AssertionError("unreachable: the minimum was returned or raised")


def _most(scaling: ScalingConfig, bundle: dict[str, float]) -> int:
    """No more workers than the whole cluster has resources for, but the minimum at least."""
    if not scaling.elastic:
        return scaling.min_workers
    total = trireme.cluster_resources()
    rooms = [int(total.get(name, 0) // amount) for name, amount in bundle.items() if amount > 0]
    return max(scaling.min_workers, min([scaling.max_workers, *rooms]))
