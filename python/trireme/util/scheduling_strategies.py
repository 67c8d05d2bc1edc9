"""Where tasks and actors run, beyond "DEFAULT" and "SPREAD"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from trireme.util.placement_group import PlacementGroup

__all__ = [
    "DoesNotExist",
    "Exists",
    "In",
    "NodeAffinitySchedulingStrategy",
    "NodeLabelSchedulingStrategy",
    "NotIn",
    "PlacementGroupSchedulingStrategy",
    "SchedulingStrategyT",
]


class PlacementGroupSchedulingStrategy:
    """In a bundle of a placement group.

    Parameters
    ----------
    placement_group
        The group. None: in no group, also where a task or actor captures those that it creates.
    placement_group_bundle_index
        Which bundle; -1: any with room.
    placement_group_capture_child_tasks
        Tasks and actors that it creates run in the group too, unless they say otherwise.
    """

    def __init__(
        self,
        placement_group: PlacementGroup | None,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        if placement_group is not None and not hasattr(placement_group, "bundle_specs"):
            raise TypeError(
                f"placement_group must be a group as placement_group() returns it, or None, not {placement_group!r}"
            )
        count = len(placement_group.bundle_specs) if placement_group is not None else 0
        if placement_group is not None and not -1 <= placement_group_bundle_index < count:
            raise ValueError(
                f"placement_group_bundle_index={placement_group_bundle_index}: the group has {count} bundles; give 0 to "
                f"{count - 1}, or -1 for any"
            )
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks

    def _trireme_place(self, native: Any) -> None:
        if self.placement_group is None:
            return
        native.group = self.placement_group._native
        native.bundle = self.placement_group_bundle_index


class NodeAffinitySchedulingStrategy:
    """On one node.

    Parameters
    ----------
    node_id
        A `NodeID` as in `trireme.nodes()` or the runtime context.
    soft
        True: elsewhere when the node is dead or can never run it. False: it fails then.
    """

    def __init__(
        self, node_id: str, soft: bool = False, _spill_on_unavailable: bool = False, _fail_on_unavailable: bool = False
    ) -> None:
        if not isinstance(node_id, str):
            raise TypeError(f"node_id must be a NodeID as in trireme.nodes(), not {node_id!r}")
        if not isinstance(soft, bool):
            raise TypeError(f"soft must be True or False, not {soft!r}")
        self.node_id = node_id
        self.soft = soft

    def _trireme_place(self, native: Any) -> None:
        from trireme._nodes import rank_of

        rank = rank_of(self.node_id)
        if rank is None and not self.soft:
            from trireme.exceptions import TaskUnschedulableError

            known = ", ".join(node["NodeID"] for node in _nodes())
            raise TaskUnschedulableError(
                f"there is no node {self.node_id!r} in this job; there are {known}. Use soft=True to run elsewhere then."
            )
        native.rank = -1 if rank is None else rank
        native.soft = self.soft


def _nodes() -> list[dict[str, Any]]:
    from trireme._nodes import nodes

    return nodes()


class In:
    """The label has one of the values."""

    def __init__(self, *values: str) -> None:
        self.values = _texts("In", values)


class NotIn:
    """The label is absent or has none of the values."""

    def __init__(self, *values: str) -> None:
        self.values = _texts("NotIn", values)


class Exists:
    """The label is there."""


class DoesNotExist:
    """The label is not there."""


def _texts(name: str, values: tuple) -> list[str]:
    if not values:
        raise ValueError(f"{name}() needs at least one value")
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{name}() compares texts; {value!r} is none")
    return list(values)


class NodeLabelSchedulingStrategy:
    """On a node with certain labels.

    Parameters
    ----------
    hard
        Label to `In`, `NotIn`, `Exists` or `DoesNotExist`; all must hold.
    soft
        Likewise; nodes for which these hold too are preferred.
    """

    def __init__(self, hard: dict[str, Any], *, soft: dict[str, Any] | None = None) -> None:
        if not hard and not soft:
            raise ValueError("NodeLabelSchedulingStrategy needs a condition in hard or in soft")
        self.hard = dict(hard or {})
        self.soft = dict(soft or {})
        self._hard = [_test(label, condition) for label, condition in self.hard.items()]
        self._soft = [_test(label, condition) for label, condition in self.soft.items()]
        self._trireme_dynamic = bool(soft)

    def _trireme_place(self, native: Any) -> None:
        from trireme._labels import place

        place(native, self._hard, self._soft)


def _test(label: str, condition: Any) -> tuple[str, bool, tuple[str, ...]]:
    if isinstance(condition, In):
        return label, True, tuple(condition.values)
    if isinstance(condition, NotIn):
        return label, False, tuple(condition.values)
    if isinstance(condition, Exists):
        return label, True, ()
    if isinstance(condition, DoesNotExist):
        return label, False, ()
    raise TypeError(f"the condition on label {label!r} must be In(...), NotIn(...), Exists() or DoesNotExist(), not {condition!r}")


#: What the option `scheduling_strategy` may be, besides None.
SchedulingStrategyT = Union[  # noqa: UP007 - evaluated
    str, PlacementGroupSchedulingStrategy, NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy
]
