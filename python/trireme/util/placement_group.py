"""Placement groups: resources reserved together, in bundles, for tasks and actors to run in."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from typing import Any

from trireme import _init, _state
from trireme._ids import PlacementGroupID
from trireme._labels import parse_selector
from trireme._native import NativeError
from trireme._object_ref import ObjectRef
from trireme._watching import ready_future

__all__ = [
    "PlacementGroup",
    "get_current_placement_group",
    "get_placement_group",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]

VALID_PLACEMENT_GROUP_STRATEGIES = {"PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"}

#: Groups made by this process, by id: they live until they are removed or the process ends.
_made: dict[str, tuple[PlacementGroup, str]] = {}
_next_number = (0, 0)  # session, and the first number that may be free in this rank's list of groups


class PlacementGroup:
    """A handle; can be an argument. Two are equal when they are handles of one group.

    `PlacementGroup(PlacementGroupID.from_hex(...))` is a handle on the group with that identity.
    """

    def __init__(
        self,
        id: PlacementGroupID | str,
        bundle_specs: list[dict[str, float]] | None = None,
        strategy: str = "",
        name: str = "",
        native: Any = None,
    ) -> None:
        self._id = id.hex() if isinstance(id, PlacementGroupID) else id
        self._bundle_specs = bundle_specs
        self._strategy = strategy
        self._name = name
        self._handle = native
        self._session = _state.session if native is not None else 0

    @property
    def _native(self) -> Any:
        if self._handle is None or self._session != _state.session:
            self._handle = _init.core().group(self._id)
            self._session = _state.session
        return self._handle

    @staticmethod
    def empty() -> PlacementGroup:
        """A handle on no group."""
        return PlacementGroup(PlacementGroupID.nil(), [])

    @property
    def id(self) -> PlacementGroupID:
        """Which group."""
        return PlacementGroupID.from_hex(self._id)

    @property
    def bundle_specs(self) -> list[dict[str, float]]:
        """The resources of each bundle. Errors: ValueError when this is a handle on no group that there is."""
        self._look_up()
        return self._bundle_specs  # type: ignore[return-value]

    @property
    def strategy(self) -> str:
        """As given to `placement_group`."""
        self._look_up()
        return self._strategy

    @property
    def name(self) -> str:
        """As given to `placement_group`."""
        self._look_up()
        return self._name

    def _look_up(self) -> None:
        """For a handle that was made of an identity: asks the rank that made the group."""
        if self._bundle_specs is not None:
            return
        rank = int(self._id[:8], 16)
        for group in _groups_of(rank) if rank < _init.core().size else ():
            if group == self:
                self._bundle_specs, self._strategy, self._name = group._bundle_specs, group._strategy, group._name
                return
        raise ValueError(f"there is no placement group with the id {self._id} in this job")

    @property
    def bundle_count(self) -> int:
        """How many bundles."""
        return len(self.bundle_specs)

    @property
    def is_empty(self) -> bool:
        """Whether this is a handle on no group."""
        return self.id.is_nil()

    def ready(self) -> ObjectRef:
        """A reference that is ready (with None) once all bundles are reserved, and fails when they never can be."""
        return ObjectRef(self._native.ready())

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Whether all bundles were reserved in time."""
        return bool(_init.core().wait((self._native.ready(),), 1, timeout_seconds)[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroup) and self._id == other._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __reduce__(self):
        return PlacementGroup, (self._id, self.bundle_specs, self.strategy, self.name)

    def __repr__(self) -> str:
        return f"PlacementGroup({self._id}, {self._strategy}, {self._bundle_specs})"


def placement_group(
    bundles: list[dict[str, float]],
    strategy: str = "PACK",
    name: str = "",
    lifetime: str | None = None,
    _soft_target_node_id: str | None = None,
    bundle_label_selector: list[dict[str, str]] | None = None,
) -> PlacementGroup:
    """Reserves bundles of resources. Returns at once; `ready()` and `wait()` tell when they are there.

    Parameters
    ----------
    bundles
        One dict each of resource name (`CPU`, `GPU`, `memory` in bytes, custom) to amount.
    strategy
        `PACK`: on few ranks; `SPREAD`: on many; `STRICT_PACK`: on one; `STRICT_SPREAD`: each on another.
    name
        For `get_placement_group`; must be free.
    lifetime
        `"detached"` or None. Either way the group stays until it is removed or the process that made it ends.

    bundle_label_selector
        For each bundle the labels of its rank, as `label_selector` of a task: `{"zone": "in(a, b)", "spot": "!true"}`. An empty
        dict asks for nothing.

    Errors: ValueError for bundles, strategies or selectors that are none; the group that can never be placed fails in
    `ready()` at once, with what was asked and what exists.
    """
    _check(bundles, strategy, lifetime)
    labels = _parse_selectors(bundle_label_selector, len(bundles))
    if _soft_target_node_id is not None:
        raise ValueError("_soft_target_node_id is not supported; use NodeAffinitySchedulingStrategy for the tasks")
    core = _init.core()
    specs = [{key: float(amount) for key, amount in bundle.items()} for bundle in bundles]
    if name and _lookup(name) is not None:
        raise ValueError(f"there is a placement group named {name!r} already; get_placement_group() gives it")
    native = core.create_group(strategy, specs, labels)
    group = PlacementGroup(native.id, [dict(bundle) for bundle in bundles], strategy, name, native)
    _made[group._id] = (group, "CREATED")
    _list(group)
    if name:
        _register(name, group)
    return group


def _check(bundles: Any, strategy: Any, lifetime: Any) -> None:
    if not isinstance(bundles, list) or not bundles:
        raise ValueError(f"bundles must be a list with at least one dict of resources, not {bundles!r}")
    for bundle in bundles:
        if not isinstance(bundle, dict) or not bundle:
            raise ValueError(f"each bundle must be a dict of resources that is not empty, not {bundle!r}")
        for key, amount in bundle.items():
            if not isinstance(key, str) or isinstance(amount, bool) or not isinstance(amount, (int, float)) or amount < 0:
                raise ValueError(f"bundle {bundle!r}: {key!r} must be a resource name with an amount >= 0, not {amount!r}")
        if not any(bundle.values()):
            raise ValueError(f"bundle {bundle!r} asks for nothing; leave it out")
    if strategy not in VALID_PLACEMENT_GROUP_STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(sorted(VALID_PLACEMENT_GROUP_STRATEGIES))}, not {strategy!r}")
    if lifetime not in (None, "detached"):
        raise ValueError(f"lifetime must be None or 'detached', not {lifetime!r}")


def _parse_selectors(selectors: Any, bundles: int) -> list[list[Any]]:
    if not selectors:
        return []
    good = isinstance(selectors, list) and all(
        isinstance(s, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in s.items()) for s in selectors
    )
    if not good or len(selectors) != bundles:
        raise ValueError(
            f"bundle_label_selector must be a list with a dict of label to value for each of the {bundles} bundles (an empty "
            f"one asks for nothing), not {selectors!r}"
        )
    return [parse_selector(selector) for selector in selectors]


def remove_placement_group(placement_group: PlacementGroup) -> None:
    """Gives the reserved resources back. Actors and tasks in it are ended (ActorDiedError, TaskPlacementGroupRemoved), and what
    waits for it fails. C++ tasks go on to their ends, and hold what they have until then."""
    if not isinstance(placement_group, PlacementGroup):
        raise TypeError(f"remove_placement_group() needs a PlacementGroup, not {placement_group!r}")
    placement_group._native.remove()
    _made[placement_group._id] = (placement_group, "REMOVED")
    _init.core().export(_key(f"removed {placement_group._id}"), b"removed")


def get_placement_group(placement_group_name: str) -> PlacementGroup:
    """The group of that name. Errors: ValueError when there is none."""
    if not placement_group_name:
        raise ValueError("get_placement_group() needs the name of a group")
    group = _lookup(placement_group_name)
    if group is None:
        raise ValueError(f"there is no placement group named {placement_group_name!r} in this job")
    return group


def _key(text: str) -> bytes:
    return hashlib.blake2b(f"placement group {text}".encode(), digest_size=16).digest()


def _known(rank: int, key: bytes) -> bytes | None:
    try:
        return bytes(_init.core().imported(rank, key))
    except NativeError as error:
        if error.code in ("not_found", "peer_lost"):
            return None
        raise


def _ranks() -> dict[int, None]:
    """All ranks, the likely ones first. Groups are few and names are looked up rarely, so one after the other is asked."""
    core = _init.core()
    return dict.fromkeys((core.rank, 0, *(row["rank"] for row in core.ranks() if row["alive"])))


def _register(name: str, group: PlacementGroup) -> None:
    # What a rank was told under a key stays, so the groups that had the name on this rank are numbered.
    number = 0
    while _known(_init.core().rank, _key(f"{name} {number}")) is not None:
        number += 1
    _init.core().export(_key(f"{name} {number}"), pickle.dumps(group))


def _lookup(name: str) -> PlacementGroup | None:
    for rank in _ranks():
        number = 0
        while (found := _known(rank, _key(f"{name} {number}"))) is not None:
            group = pickle.loads(found)
            if not any(_known(other, _key(f"removed {group._id}")) for other in _ranks()):
                return group
            number += 1
    return None


def _list(group: PlacementGroup) -> None:
    """Enters it into this rank's list, which all processes of the rank share: the first free number is its."""
    global _next_number
    core, session = _init.core(), _state.session
    number = _next_number[1] if _next_number[0] == session else 0
    entry = pickle.dumps(group)
    # What another process entered under a number stays.
    while _known(core.rank, _number_key(core.rank, number)) != entry:
        if _known(core.rank, _number_key(core.rank, number)) is None:
            core.export(_number_key(core.rank, number), entry)
        else:
            number += 1
    _next_number = (session, number + 1)
    ready = group._native.ready()

    def tell(_: Any) -> None:
        if ready.ready and _state.session == session:
            core.export(_key(f"ready {group._id}"), b"CREATED" if ready.error is None else b"FAILED")

    ready_future(ready).add_done_callback(tell)


def _number_key(rank: int, number: int) -> bytes:
    return _key(f"number {number} of rank {rank}")


def _groups_of(rank: int) -> Iterator[PlacementGroup]:
    """All groups that the processes of a rank made."""
    number = 0
    while (entry := _known(rank, _number_key(rank, number))) is not None:
        yield pickle.loads(entry)
        number += 1


def _all_groups() -> list[PlacementGroup]:
    """All groups that the job's living ranks made."""
    return [group for row in _init.core().ranks() if row["alive"] for group in _groups_of(row["rank"])]


def placement_group_table(placement_group: PlacementGroup | None = None) -> dict[str, Any]:
    """State of one group, or by id of all that the job made, whichever process did.

    Each a dict with `placement_group_id`, `name`, `bundles` (by index), `strategy` and `state` (PENDING, CREATED,
    REMOVED or, when it can never be placed, FAILED).
    """
    if placement_group is not None:
        return _row(placement_group)
    return {group._id: _row(group) for group in _all_groups()}


def _row(group: PlacementGroup) -> dict[str, Any]:
    made, state = _made.get(group._id, (None, ""))
    if made is None:
        state = _told_state(group._id)
    elif state != "REMOVED":
        ready = made._native.ready()
        if not ready.ready:
            state = "PENDING"
        elif ready.error is not None:
            state = "FAILED"
    return {
        "placement_group_id": group._id,
        "name": group.name,
        "bundles": dict(enumerate(group.bundle_specs)),
        "strategy": group.strategy,
        "state": state,
    }


def _told_state(group_id: str) -> str:
    """The state of a group that another process made, as that one told its rank."""
    if any(_known(rank, _key(f"removed {group_id}")) for rank in _ranks()):
        return "REMOVED"
    told = _known(int(group_id[:8], 16), _key(f"ready {group_id}"))
    return told.decode() if told is not None else "PENDING"


def get_current_placement_group() -> PlacementGroup | None:
    """The group in which this task or actor runs; None in the driver and outside of groups."""
    worker = _state.worker
    return worker.placement_group() if worker is not None else None
